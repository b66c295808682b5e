/*
 * Geo: the table. Arity, flags, key specs, categories, tips and argument trees are those that redis-server 7.2
 * publishes, for clients that route and check by them; the commands themselves are in cmd_geo*.c.
 */
#include "cmd/cmd_geo.h"

#define KEY_AT(flags_, index_)                                                                                                   \
    { .flags = (flags_), .begin = KEY_BEGIN_INDEX, .index = (index_), .find = KEY_FIND_RANGE, .keystep = 1 }
#define KEY_AFTER(flags_, word_, from_)                                                                                          \
    { .flags = (flags_), .begin = KEY_BEGIN_KEYWORD, .keyword = (word_), .index = (from_), .find = KEY_FIND_RANGE, .keystep = 1 }

static const struct cmd_arg geoadd_condition_args[] = {
    { .name = "nx", .type = ARG_PURE_TOKEN, .token = "NX" },
    { .name = "xx", .type = ARG_PURE_TOKEN, .token = "XX" },
    { 0 },
};
static const struct cmd_arg geoadd_data_args[] = {
    { .name = "longitude", .type = ARG_DOUBLE },
    { .name = "latitude", .type = ARG_DOUBLE },
    { .name = "member", .type = ARG_STRING },
    { 0 },
};
static const struct cmd_arg geoadd_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "condition", .type = ARG_ONEOF, .since = "6.2.0", .flags = ARG_OPTIONAL, .sub = geoadd_condition_args },
    { .name = "change", .type = ARG_PURE_TOKEN, .token = "CH", .since = "6.2.0", .flags = ARG_OPTIONAL },
    { .name = "data", .type = ARG_BLOCK, .flags = ARG_MULTIPLE, .sub = geoadd_data_args },
    { 0 },
};
static const struct cmd_history geoadd_history[] = {
    { "6.2.0", "Options `CH`, `NX` and `XX`." },
    { 0 },
};
static const struct cmd_arg geodist_unit_args[] = {
    { .name = "m", .type = ARG_PURE_TOKEN, .token = "M" },
    { .name = "km", .type = ARG_PURE_TOKEN, .token = "KM" },
    { .name = "ft", .type = ARG_PURE_TOKEN, .token = "FT" },
    { .name = "mi", .type = ARG_PURE_TOKEN, .token = "MI" },
    { 0 },
};
static const struct cmd_arg geodist_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "member1", .type = ARG_STRING },
    { .name = "member2", .type = ARG_STRING },
    { .name = "unit", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = geodist_unit_args },
    { 0 },
};
static const struct cmd_arg geohash_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "member", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
    { 0 },
};
static const struct cmd_arg georadius_count_block_args[] = {
    { .name = "count", .type = ARG_INTEGER, .token = "COUNT" },
    { .name = "any", .type = ARG_PURE_TOKEN, .token = "ANY", .since = "6.2.0", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg georadius_order_args[] = {
    { .name = "asc", .type = ARG_PURE_TOKEN, .token = "ASC" },
    { .name = "desc", .type = ARG_PURE_TOKEN, .token = "DESC" },
    { 0 },
};
static const struct cmd_arg georadius_store_args[] = {
    { .name = "storekey", .type = ARG_KEY, .key_spec_index = 1, .token = "STORE", .display = "key" },
    { .name = "storedistkey", .type = ARG_KEY, .key_spec_index = 2, .token = "STOREDIST", .display = "key" },
    { 0 },
};
static const struct cmd_arg georadius_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "longitude", .type = ARG_DOUBLE },
    { .name = "latitude", .type = ARG_DOUBLE },
    { .name = "radius", .type = ARG_DOUBLE },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { .name = "withcoord", .type = ARG_PURE_TOKEN, .token = "WITHCOORD", .flags = ARG_OPTIONAL },
    { .name = "withdist", .type = ARG_PURE_TOKEN, .token = "WITHDIST", .flags = ARG_OPTIONAL },
    { .name = "withhash", .type = ARG_PURE_TOKEN, .token = "WITHHASH", .flags = ARG_OPTIONAL },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadius_count_block_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { .name = "store", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_store_args },
    { 0 },
};
static const struct cmd_history georadius_history[] = {
    { "6.2.0", "Option `ANY` of `COUNT`." },
    { "7.0.0", "Units in capitals." },
    { 0 },
};
static const struct cmd_arg georadius_ro_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "longitude", .type = ARG_DOUBLE },
    { .name = "latitude", .type = ARG_DOUBLE },
    { .name = "radius", .type = ARG_DOUBLE },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { .name = "withcoord", .type = ARG_PURE_TOKEN, .token = "WITHCOORD", .flags = ARG_OPTIONAL },
    { .name = "withdist", .type = ARG_PURE_TOKEN, .token = "WITHDIST", .flags = ARG_OPTIONAL },
    { .name = "withhash", .type = ARG_PURE_TOKEN, .token = "WITHHASH", .flags = ARG_OPTIONAL },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadius_count_block_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { 0 },
};
static const struct cmd_history georadius_ro_history[] = {
    { "6.2.0", "Option `ANY` of `COUNT`." },
    { "7.0.0", "Units in capitals." },
    { 0 },
};
static const struct cmd_arg georadiusbymember_count_block_args[] = {
    { .name = "count", .type = ARG_INTEGER, .token = "COUNT" },
    { .name = "any", .type = ARG_PURE_TOKEN, .token = "ANY", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg georadiusbymember_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "member", .type = ARG_STRING },
    { .name = "radius", .type = ARG_DOUBLE },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { .name = "withcoord", .type = ARG_PURE_TOKEN, .token = "WITHCOORD", .flags = ARG_OPTIONAL },
    { .name = "withdist", .type = ARG_PURE_TOKEN, .token = "WITHDIST", .flags = ARG_OPTIONAL },
    { .name = "withhash", .type = ARG_PURE_TOKEN, .token = "WITHHASH", .flags = ARG_OPTIONAL },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadiusbymember_count_block_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { .name = "store", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_store_args },
    { 0 },
};
static const struct cmd_history georadiusbymember_history[] = {
    { "6.2.0", "Option `ANY` of `COUNT`." },
    { "7.0.0", "Units in capitals." },
    { 0 },
};
static const struct cmd_arg georadiusbymember_ro_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "member", .type = ARG_STRING },
    { .name = "radius", .type = ARG_DOUBLE },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { .name = "withcoord", .type = ARG_PURE_TOKEN, .token = "WITHCOORD", .flags = ARG_OPTIONAL },
    { .name = "withdist", .type = ARG_PURE_TOKEN, .token = "WITHDIST", .flags = ARG_OPTIONAL },
    { .name = "withhash", .type = ARG_PURE_TOKEN, .token = "WITHHASH", .flags = ARG_OPTIONAL },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadiusbymember_count_block_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { 0 },
};
static const struct cmd_history georadiusbymember_ro_history[] = {
    { "6.2.0", "Option `ANY` of `COUNT`." },
    { "7.0.0", "Units in capitals." },
    { 0 },
};
static const struct cmd_arg geosearch_from_fromlonlat_args[] = {
    { .name = "longitude", .type = ARG_DOUBLE },
    { .name = "latitude", .type = ARG_DOUBLE },
    { 0 },
};
static const struct cmd_arg geosearch_from_args[] = {
    { .name = "member", .type = ARG_STRING, .token = "FROMMEMBER" },
    { .name = "fromlonlat", .type = ARG_BLOCK, .token = "FROMLONLAT", .sub = geosearch_from_fromlonlat_args },
    { 0 },
};
static const struct cmd_arg geosearch_by_circle_args[] = {
    { .name = "radius", .type = ARG_DOUBLE, .token = "BYRADIUS" },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { 0 },
};
static const struct cmd_arg geosearch_by_box_args[] = {
    { .name = "width", .type = ARG_DOUBLE, .token = "BYBOX" },
    { .name = "height", .type = ARG_DOUBLE },
    { .name = "unit", .type = ARG_ONEOF, .sub = geodist_unit_args },
    { 0 },
};
static const struct cmd_arg geosearch_by_args[] = {
    { .name = "circle", .type = ARG_BLOCK, .sub = geosearch_by_circle_args },
    { .name = "box", .type = ARG_BLOCK, .sub = geosearch_by_box_args },
    { 0 },
};
static const struct cmd_arg geosearch_args[] = {
    { .name = "key", .type = ARG_KEY },
    { .name = "from", .type = ARG_ONEOF, .sub = geosearch_from_args },
    { .name = "by", .type = ARG_ONEOF, .sub = geosearch_by_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadiusbymember_count_block_args },
    { .name = "withcoord", .type = ARG_PURE_TOKEN, .token = "WITHCOORD", .flags = ARG_OPTIONAL },
    { .name = "withdist", .type = ARG_PURE_TOKEN, .token = "WITHDIST", .flags = ARG_OPTIONAL },
    { .name = "withhash", .type = ARG_PURE_TOKEN, .token = "WITHHASH", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_history geosearch_history[] = {
    { "7.0.0", "Units in capitals." },
    { 0 },
};
static const struct cmd_arg geosearchstore_args[] = {
    { .name = "destination", .type = ARG_KEY },
    { .name = "source", .type = ARG_KEY, .key_spec_index = 1 },
    { .name = "from", .type = ARG_ONEOF, .sub = geosearch_from_args },
    { .name = "by", .type = ARG_ONEOF, .sub = geosearch_by_args },
    { .name = "order", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = georadius_order_args },
    { .name = "count-block", .type = ARG_BLOCK, .flags = ARG_OPTIONAL, .sub = georadiusbymember_count_block_args },
    { .name = "storedist", .type = ARG_PURE_TOKEN, .token = "STOREDIST", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_history geosearchstore_history[] = {
    { "7.0.0", "Units in capitals." },
    { 0 },
};

const struct cmd_spec cmd_specs_geo[] = {
    { .name = "geoadd",
      .run = geo_geoadd_command,
      .arity = -5,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RW | KEY_UPDATE, 1) },
      .summary = "Adds places with their longitudes and latitudes.",
      .since = "3.2.0",
      .complexity = "O(log(N)) for each place, N being the size of the set.",
      .group = "geo",
      .args = geoadd_args,
      .history = geoadd_history },
    { .name = "geodist",
      .run = geo_geodist_command,
      .arity = -4,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Tells how far two places are from one another.",
      .since = "3.2.0",
      .complexity = "O(1)",
      .group = "geo",
      .args = geodist_args },
    { .name = "geohash",
      .run = geo_geohash_command,
      .arity = -2,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Writes places as standard geohash text.",
      .since = "3.2.0",
      .complexity = "O(1) for each place.",
      .group = "geo",
      .args = geohash_args },
    { .name = "geopos",
      .run = geo_geopos_command,
      .arity = -2,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Reads the longitudes and latitudes of places.",
      .since = "3.2.0",
      .complexity = "O(1) for each place.",
      .group = "geo",
      .args = geohash_args },
    { .name = "georadius",
      .run = geo_georadius_command,
      .arity = -6,
      .flags = CMD_WRITE | CMD_DENYOOM | CMD_MOVABLEKEYS,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1), KEY_AFTER(KEY_OW | KEY_UPDATE, "STORE", 6),
                KEY_AFTER(KEY_OW | KEY_UPDATE, "STOREDIST", 6) },
      .get_keys = geo_radius_keys,
      .summary = "Finds the places around a point; may store them.",
      .since = "3.2.0",
      .complexity = "O(N+log(M)), N being the number of places in the square around the circle and M the size of the set.",
      .group = "geo",
      .deprecated_since = "6.2.0",
      .replaced_by = "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument",
      .args = georadius_args,
      .history = georadius_history },
    { .name = "georadius_ro",
      .run = geo_georadius_ro_command,
      .arity = -6,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Finds the places around a point.",
      .since = "3.2.10",
      .complexity = "O(N+log(M)), N being the number of places in the square around the circle and M the size of the set.",
      .group = "geo",
      .deprecated_since = "6.2.0",
      .replaced_by = "`GEOSEARCH` with the `BYRADIUS` argument",
      .args = georadius_ro_args,
      .history = georadius_ro_history },
    { .name = "georadiusbymember",
      .run = geo_georadiusbymember_command,
      .arity = -5,
      .flags = CMD_WRITE | CMD_DENYOOM | CMD_MOVABLEKEYS,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1), KEY_AFTER(KEY_OW | KEY_UPDATE, "STORE", 5),
                KEY_AFTER(KEY_OW | KEY_UPDATE, "STOREDIST", 5) },
      .get_keys = geo_radiusbymember_keys,
      .summary = "Finds the places around a member; may store them.",
      .since = "3.2.0",
      .complexity = "O(N+log(M)), N being the number of places in the square around the circle and M the size of the set.",
      .group = "geo",
      .deprecated_since = "6.2.0",
      .replaced_by = "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments",
      .args = georadiusbymember_args,
      .history = georadiusbymember_history },
    { .name = "georadiusbymember_ro",
      .run = geo_georadiusbymember_ro_command,
      .arity = -5,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Finds the places around a member.",
      .since = "3.2.10",
      .complexity = "O(N+log(M)), N being the number of places in the square around the circle and M the size of the set.",
      .group = "geo",
      .deprecated_since = "6.2.0",
      .replaced_by = "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments",
      .args = georadiusbymember_ro_args,
      .history = georadiusbymember_ro_history },
    { .name = "geosearch",
      .run = geo_geosearch_command,
      .arity = -7,
      .flags = CMD_READONLY,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_RO | KEY_ACCESS, 1) },
      .summary = "Finds the places within a circle or a box.",
      .since = "6.2.0",
      .complexity = "O(N+log(M)), N being the number of places in the cells around the shape and M the size of the set.",
      .group = "geo",
      .args = geosearch_args,
      .history = geosearch_history },
    { .name = "geosearchstore",
      .run = geo_geosearchstore_command,
      .arity = -8,
      .flags = CMD_WRITE | CMD_DENYOOM,
      .cats = CAT_GEO,
      .keys = { KEY_AT(KEY_OW | KEY_UPDATE, 1), KEY_AT(KEY_RO | KEY_ACCESS, 2) },
      .summary = "Stores the places within a circle or a box.",
      .since = "6.2.0",
      .complexity = "O(N+log(M)), N being the number of places in the cells around the shape and M the size of the set.",
      .group = "geo",
      .args = geosearchstore_args,
      .history = geosearchstore_history },
    { .name = NULL },
};
