/* The geo family: places in sorted sets, their scores being geohashes (data/geohash.h). cmd_geo_spec.c lists the commands. All of
 * it runs on the dispatching thread with the shards of the named keys locked. */
#ifndef KETTLE_CMD_CMD_GEO_H
#define KETTLE_CMD_CMD_GEO_H

#include "cmd/cmd.h"
#include "data/geohash.h"

/* argv[at] and argv[at + 1]: longitude and latitude. Reply the error and give false, as those below. */
bool geo_arg_point(struct cmd_ctx *c, int at, struct geo_point *ret);
bool geo_arg_unit(struct cmd_ctx *c, struct slice a, double *ret_metres);
void geo_reply_distance(struct cmd_ctx *c, double distance); /* four decimals */
void geo_reply_point(struct cmd_ctx *c, struct geo_point p);

/* With the keys of STORE and STOREDIST: of each the first that is given, which is what the key specs say, and the one that
 * counts. */
int geo_radius_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);
int geo_radiusbymember_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

void geo_geoadd_command(struct cmd_ctx *c);
void geo_geodist_command(struct cmd_ctx *c);
void geo_geohash_command(struct cmd_ctx *c);
void geo_geopos_command(struct cmd_ctx *c);

void geo_georadius_command(struct cmd_ctx *c);
void geo_georadius_ro_command(struct cmd_ctx *c);
void geo_georadiusbymember_command(struct cmd_ctx *c);
void geo_georadiusbymember_ro_command(struct cmd_ctx *c);
void geo_geosearch_command(struct cmd_ctx *c);
void geo_geosearchstore_command(struct cmd_ctx *c);

#endif
