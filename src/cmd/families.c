/* The command families of this layer. Start-up, main thread. */
#include "cmd/cmd.h"

void cmd_table_register_data(struct cmd_table *t) {
    static const struct cmd_spec *const families[] = {
        cmd_specs_generic, cmd_specs_string, cmd_specs_bitmap,      cmd_specs_list,   cmd_specs_hash,
        cmd_specs_set,     cmd_specs_zset,   cmd_specs_geo,         cmd_specs_stream, cmd_specs_hll,
        cmd_specs_sort,    cmd_specs_dump,   cmd_specs_transaction, cmd_specs_script, cmd_specs_command,
    };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) cmd_table_register(t, families[i]);
}
