/* SCRIPT KILL, FUNCTION KILL, FUNCTION STATS. */
#include "cmd/script/script_priv.h"

void script_kill_command(struct cmd_ctx *c) {
    reply_error(c->r, "NOTBUSY No scripts in execution right now.");
}

void function_kill_command(struct cmd_ctx *c) {
    reply_error(c->r, "NOTBUSY No scripts in execution right now.");
}

void function_stats_command(struct cmd_ctx *c) {
    struct scripts_figures f;
    scripts_figures_get(scripts_of(c), &f);
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "running_script");
    reply_null(c->r);
    reply_bulk_cstr(c->r, "engines");
    reply_map(c->r, 1);
    reply_bulk_cstr(c->r, "LUA");
    reply_map(c->r, 2);
    reply_bulk_cstr(c->r, "libraries_count");
    reply_int(c->r, (int64_t)f.n_libraries);
    reply_bulk_cstr(c->r, "functions_count");
    reply_int(c->r, (int64_t)f.n_functions);
}
