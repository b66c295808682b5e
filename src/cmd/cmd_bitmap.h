/* The bitmap family: strings addressed by bit, bit 0 being the most significant of byte 0. What its files share, and the
 * commands that cmd_bitmap_spec.c lists. Dispatching thread, shards of the keys locked. */
#ifndef KETTLE_CMD_CMD_BITMAP_H
#define KETTLE_CMD_CMD_BITMAP_H

#include "cmd/cmd_generic.h"

/* A bit offset argument: replies "ERR bit offset is not an integer or out of range" and gives false unless it lies within
 * proto-max-bulk-len bytes. width > 0 also accepts "#n", the n-th field of that many bits. */
bool bitmap_offset_arg(struct cmd_ctx *c, struct slice a, unsigned width, uint64_t *ret);

/* The string of argv[1], made if need be and long enough for last_bit, to be changed in place. *ret_grown: it is new or longer
 * than before. NULL when a WRONGTYPE was replied. */
uint8_t *bitmap_for_write(struct cmd_ctx *c, uint64_t last_bit, size_t *ret_len, bool *ret_grown);

/* BITFIELD's key is written only by SET and INCRBY. */
int bitmap_field_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

void bitmap_setbit_command(struct cmd_ctx *c);
void bitmap_getbit_command(struct cmd_ctx *c);
void bitmap_bitcount_command(struct cmd_ctx *c);
void bitmap_bitpos_command(struct cmd_ctx *c);
void bitmap_bitop_command(struct cmd_ctx *c);
void bitmap_bitfield_command(struct cmd_ctx *c);
void bitmap_bitfield_ro_command(struct cmd_ctx *c);

#endif
