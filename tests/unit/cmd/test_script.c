/* Scripts: what they reply, what their commands do and whom they tell, what scripts cannot do to each other, functions and their
 * payloads. */
#include "base/crc64.h"
#include "cmd/figures.h"
#include "cmd/script/script.h"
#include "test_cmd_harness.h"

/* EVAL without keys; the script may have any byte. */
static const char *eval(struct harness *h, const char *script) {
    const struct slice argv[] = { SLICE_LIT("eval"), slice_cstr(script), SLICE_LIT("0") };
    return harness_run_argv(h, 3, argv);
}

static const char *load(struct harness *h, const char *code, bool replace) {
    const struct slice argv[] = { SLICE_LIT("function"), SLICE_LIT("load"), SLICE_LIT("replace"), slice_cstr(code) };
    const struct slice plain[] = { argv[0], argv[1], argv[3] };
    return replace ? harness_run_argv(h, 4, argv) : harness_run_argv(h, 3, plain);
}

static void test_script_values_become_replies(void **state) {
    struct harness *h = *state;
    static const char *const cases[][2] = {
        { "return 1", ":1\r\n" },
        { "return -1.9", ":-1\r\n" },
        { "return 'x'", "$1\r\nx\r\n" },
        { "return true", ":1\r\n" },
        { "return false", NIL },
        { "return", NIL },
        { "return {1,{'a'},nil,3}", "*2\r\n:1\r\n*1\r\n$1\r\na\r\n" },
        { "return {ok='fine'}", "+fine\r\n" },
        { "return {err='MY bad\\r\\n'}", "-MY bad\r\n" },
        { "return {double=3.5}", "$3\r\n3.5\r\n" },
        { "return {map={a=1}}", "*2\r\n$1\r\na\r\n:1\r\n" },
        { "return {set={a=1}}", "*1\r\n$1\r\na\r\n" },
        { "return {big_number='1\\n2'}", "$3\r\n1 2\r\n" },
        { "return {verbatim_string={format='txt',string='v'}}", "$1\r\nv\r\n" },
        { "return 1/0", ":-9223372036854775808\r\n" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) assert_string_equal(eval(h, cases[i][0]), cases[i][1]);
}

static void test_script_values_in_resp3(void **state) {
    struct harness *h = *state;
    session_set_resp(&h->s, 3);
    assert_string_equal(eval(h, "return {double=0.5}"), ",0.5\r\n");
    assert_string_equal(eval(h, "return {map={a=false}}"), "%1\r\n$1\r\na\r\n_\r\n");
    assert_string_equal(eval(h, "redis.setresp(3) return {true,false}"), "*2\r\n#t\r\n#f\r\n");
    assert_string_equal(eval(h, "return {verbatim_string={format='t',string='v'}}"), "=5\r\nt  :v\r\n");
    session_set_resp(&h->s, 2);
}

static void test_script_commands_tell_of_their_effects(void **state) {
    struct harness *h = *state;
    harness_effects(h, "eval \"return redis.call('set',KEYS[1],ARGV[1])\" 1 k v", OK, "*$:set k@0;*");
    assert_string_equal(harness_run(h, "get k"), "$1\r\nv\r\n");
    harness_run(h, "watch k");
    harness_run(h, "eval \"return redis.call('append','k','w')\" 0");
    harness_run(h, "multi");
    harness_run(h, "get k");
    assert_string_equal(harness_run(h, "exec"), "*-1\r\n");
}

static void test_script_numbers_become_arguments(void **state) {
    struct harness *h = *state;
    eval(h, "redis.call('mset','a',0.1,'b',1e15,'c',1e300)");
    assert_string_equal(harness_run(h, "mget a b c"), "*3\r\n$3\r\n0.1\r\n$16\r\n1000000000000000\r\n$6\r\n1e+300\r\n");
}

/* What goes to replicas in place of a command is told as for any other; redis.set_repl can forbid it. */
static void test_script_propagates_as_told(void **state) {
    struct harness *h = *state;
    harness_effects(h, "eval \"return redis.call('set','k','v','ex',100)\" 0", OK, "*=> *k v*");
    harness_effects(h, "eval \"redis.set_repl(redis.REPL_NONE) return redis.call('set','k','v','ex',100)\" 0", OK,
                    "$:set k@0;g:expire k@0;");
}

static void test_script_in_transaction(void **state) {
    struct harness *h = *state;
    harness_run(h, "multi");
    harness_run(h, "eval \"return redis.call('incr','n')\" 0");
    harness_run(h, "incr n");
    assert_string_equal(harness_run(h, "exec"), "*2\r\n:1\r\n:2\r\n");
}

#define AT(sha) " script: " sha ", on @user_script:1.\r\n"

static void test_script_errors(void **state) {
    struct harness *h = *state;
    assert_string_equal(eval(h, "error('x')"), "-ERR user_script:1: x" AT("9851144f39f03a0d597a980c5aa79c80cb696891"));
    assert_string_equal(eval(h, "return foo"), "-ERR user_script:1: Script attempted to access nonexistent global variable "
                                               "'foo'" AT("47e30a5d10d5694f99208f9adc4fe3bf2450edbd"));
    assert_string_equal(eval(h, "return 1 +"),
                        "-ERR Error compiling script (new function): user_script:1: unexpected symbol near '<eof>'\r\n");
    assert_string_equal(eval(h, "return redis.call('nosuch')"),
                        "-ERR Unknown Redis command called from script" AT("206396248e12c6e742fd7296250433c8d7343b74"));
    assert_string_equal(eval(h, "return redis.pcall('nosuch')"), "-ERR Unknown Redis command called from script\r\n");
    assert_true(strncmp(eval(h, "error({})"), "-ERR unknown error script: ", 27) == 0);
    assert_string_equal(harness_run(h, "evalsha ffffffffffffffffffffffffffffffffffffffff 0"),
                        "-NOSCRIPT No matching script. Please use EVAL.\r\n");
}

static uint64_t errors_of(struct harness *h) {
    return atomic_load(&h->eng.n_error_replies);
}

static void test_script_errors_are_counted_once(void **state) {
    struct harness *h = *state;
    uint64_t before = errors_of(h);
    eval(h, "return redis.pcall('nosuch')");
    assert_int_equal(errors_of(h), before + 1);
    eval(h, "redis.call('incr')");
    assert_int_equal(errors_of(h), before + 2);
    eval(h, "error('x')");
    assert_int_equal(errors_of(h), before + 3);
    eval(h, "redis.pcall('incr') return 1");
    assert_int_equal(errors_of(h), before + 4);
    assert_int_equal(atomic_load(&cmd_lookup(h->table, SLICE_LIT("eval"))->failed), 3);
    assert_int_equal(atomic_load(&cmd_lookup(h->table, SLICE_LIT("incr"))->rejected), 2);
}

/* Each tries to leave something behind for the next script; none may. */
static void test_script_cannot_change_what_others_see(void **state) {
    struct harness *h = *state;
    static const char *const attacks[] = {
        "evil = 1",
        "_G.evil = 1",
        "rawset(_G,'evil',1)",
        "rawset(_G,'redis',nil)",
        "redis = nil",
        "redis.call = print",
        "rawset(redis,'call',1)",
        "setmetatable(redis,{__index=function() return 1 end})",
        "setmetatable(_G,{})",
        "getmetatable(_G).__index = function() return 1 end",
        "rawset(getmetatable(_G),'__index',1)",
        "setmetatable(getmetatable(_G),{})",
        "getmetatable('').__index = {}",
        "getmetatable('').__index.upper = nil",
        "rawset(getmetatable('').__index,'upper',nil)",
        "rawset(getmetatable(''),'__index',nil)",
        "string.upper = nil",
        "rawset(string,'upper',nil)",
        "table.insert(string,1)",
        "table.remove(string)",
        "table.sort(redis)",
        "table.insert(redis,1,2)",
        "string[1]=1",
        "math.random = nil",
        "cjson.encode = nil",
        "cmsgpack.pack = nil",
        "struct.pack = nil",
        "bit.band = nil",
        "os.clock = nil",
        "coroutine.wrap = nil",
        "KEYS = 1",
        "ARGV = 1",
        "for k,v in pairs(_G) do if type(v)=='table' then v.evil = 1 end end",
        "next(redis) rawset(redis,'evil',1)",
        "for k,v in next,redis do rawset(redis,k,nil) end",
        "table.foreach(_G,function(k,v) rawset(_G,k,nil) end)",
        "load(function() return nil end) loadstring('evil=1')()",
        "coroutine.wrap(function() evil=1 end)()",
        "coroutine.wrap(function() rawset(_G,'evil',1) end)()",
        "xpcall(function() evil=1 end,function(e) evil=2 return e end)",
        "debug.setmetatable(1,{})",
        "getfenv().evil=1",
        "setfenv(1,{})",
        "newproxy(true)",
        "io.open('/etc/passwd')",
        "require('os')",
        "dofile('/etc/passwd')",
        "loadfile('/etc/passwd')",
        "os.exit()",
        "os.execute('id')",
        "package.loaded.x=1",
        "string.dump(function() end)",
        "redis.register_function('f',function() end)",
        "collectgarbage('stop')",
        "select(2,pcall(rawset,redis,'evil',1)) rawset(server,'evil',1)",
        "setmetatable(string,nil)",
        "module('evil')",
        "cjson.new().encode = nil error()",
        "__index = 1",
    };
    for (size_t i = 0; i < sizeof attacks / sizeof *attacks; i++) {
        eval(h, attacks[i]);
        assert_string_equal(eval(h, "local n=0 for k in pairs(_G) do n=n+1 end\n"
                                    "assert(('a'):upper()=='A' and string.upper('a')=='A' and rawget(_G,'evil')==nil)\n"
                                    "assert(redis.evil==nil and string.evil==nil and string[1]==nil and redis[1]==nil)\n"
                                    "assert(cjson.encode({1})=='[1]' and bit.band(7,3)==3 and math.floor(1.5)==1)\n"
                                    "assert(type(math.random)=='function' and type(coroutine.wrap)=='function')\n"
                                    "assert(#cmsgpack.pack(1)==1 and #struct.pack('b',1)==1 and os.clock()>=0)\n"
                                    "assert(type(KEYS)=='table' and type(ARGV)=='table' and getmetatable(redis)==nil)\n"
                                    "assert(not pcall(function() return evil end))\n"
                                    "assert(redis.call('set','k','v').ok=='OK') return n"),
                            ":36\r\n");
    }
}

static void test_script_reads_no_compiled_code(void **state) {
    struct harness *h = *state;
    assert_string_equal(eval(h, "return loadstring('\\27Lua')"), NIL);
    assert_string_equal(eval(h, "return load(function() return nil end) ~= nil"), ":1\r\n");
    assert_string_equal(eval(h, "local i=0 return load(function() i=i+1 return i==1 and '\\27' or i==2 and 'Lua' or nil end)"),
                        NIL);
    const struct slice argv[] = { SLICE_LIT("eval"), SLICE_LIT("\033LuaQ"), SLICE_LIT("0") };
    assert_true(strstr(harness_run_argv(h, 3, argv), "Error compiling script") != NULL);
}

/* The pieces of a chunk may collect garbage: the chunk's name must live through it. */
static void test_script_load_survives_collection(void **state) {
    struct harness *h = *state;
    assert_string_equal(eval(h,
                             "local i=0 local f=load(function() collectgarbage() i=i+1 return i<50 and ' ' or i==50 and 'return "
                             "7' or nil end) return f()"),
                        ":7\r\n");
}

static void test_script_sizes_are_checked(void **state) {
    struct harness *h = *state;
    eval(h, "return unpack({},-2147483648,2147483647)");
    eval(h, "return unpack({},0,2147483647)");
    eval(h, "return bit.tohex(1,-2147483648)");
    eval(h, "return string.find(('a'):rep(100000),('a?'):rep(100000))");
    eval(h, "local t={('x'):rep(1000000)} for i=1,40 do t={t,t} end return cjson.encode(t)");
    eval(h, "local t={} t[1]=t return cjson.encode(t)");
    eval(h, "local t={} t[1]=t return cmsgpack.pack(t)");
    eval(h, "return cmsgpack.unpack(('\\145'):rep(100000))");
    eval(h, "local t={} t[1]=t return t");
    eval(h, "local function f() return f()+1 end return f()");
    eval(h, "local s='return ' return loadstring(s..('('):rep(10000)..'1'..(')'):rep(10000))");
    assert_string_equal(eval(h, "return 1"), ":1\r\n");
}

static void test_script_read_only(void **state) {
    struct harness *h = *state;
    assert_true(strstr(harness_run(h, "eval_ro \"return redis.call('set','k','v')\" 0"), "Write commands are not allowed"));
    assert_string_equal(harness_run(h, "eval_ro \"return redis.call('get','k')\" 0"), NIL);
    assert_true(strstr(eval(h, "#!lua flags=no-writes\nreturn redis.call('set','k','v')"), "Write commands are not allowed"));
    assert_string_equal(harness_run(h, "eval_ro \"#!lua\\nreturn 1\" 0"),
                        "-ERR Can not execute a script with write flag using *_ro command.\r\n");
}

static bool memory_is_full(void *arg) {
    (void)arg;
    return true;
}

static void test_script_out_of_memory(void **state) {
    struct harness *h = *state;
    h->eng.hooks.out_of_memory = memory_is_full;
    assert_true(strstr(eval(h, "return redis.call('set','k','v')"), "-OOM command not allowed when used memory > 'maxmemory'."));
    assert_string_equal(eval(h, "redis.call('del','k') return redis.call('set','k','v')"), OK);
    assert_true(strstr(eval(h, "#!lua\nreturn 1"), "-OOM allow-oom flag is not set on the script"));
    assert_string_equal(eval(h, "#!lua flags=allow-oom\nreturn redis.call('set','k','v')"), OK);
    assert_string_equal(eval(h, "#!lua flags=no-writes\nreturn 1"), ":1\r\n");
    h->eng.hooks.out_of_memory = NULL;
}

static void test_script_cache(void **state) {
    struct harness *h = *state;
    struct scripts_figures f;
    assert_string_equal(harness_run(h, "script load 'return 1'"), "$40\r\ne0e1f9fabfc9d4800c877a703b823ac0578ff8db\r\n");
    assert_string_equal(harness_run(h, "script exists E0E1F9FABFC9D4800C877A703B823AC0578FF8DB x"), "*2\r\n:1\r\n:0\r\n");
    assert_string_equal(harness_run(h, "evalsha E0E1F9FABFC9D4800C877A703B823AC0578FF8DB 0"), ":1\r\n");
    scripts_figures_get(h->eng.scripts, &f);
    assert_int_equal(f.n_scripts, 1);
    assert_true(f.vm_eval > 0);
    assert_string_equal(harness_run(h, "script flush async"), OK);
    scripts_figures_get(h->eng.scripts, &f);
    assert_int_equal(f.n_scripts, 0);
    assert_int_equal(f.vm_eval, 0);
    assert_true(strncmp(harness_run(h, "evalsha e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0"), "-NOSCRIPT", 9) == 0);
}

#define LIB "#!lua name=lib\nlocal n=0\nredis.register_function('f',function(keys,args) n=n+1 return {n,keys[1],args[1]} end)\n"

static void test_function_load_and_call(void **state) {
    struct harness *h = *state;
    assert_string_equal(load(h, LIB, false), "$3\r\nlib\r\n");
    assert_string_equal(load(h, LIB, false), "-ERR Library 'lib' already exists\r\n");
    assert_string_equal(harness_run(h, "fcall f 1 k a"), "*3\r\n:1\r\n$1\r\nk\r\n$1\r\na\r\n");
    assert_string_equal(harness_run(h, "fcall f 0"), "*1\r\n:2\r\n");
    assert_string_equal(load(h, LIB, true), "$3\r\nlib\r\n");
    assert_string_equal(harness_run(h, "fcall f 0"), "*1\r\n:1\r\n");
    assert_string_equal(load(h, "#!lua name=other\nredis.register_function('f',function() end)", false),
                        "-ERR Function f already exists\r\n");
    assert_string_equal(harness_run(h, "function delete lib"), OK);
    assert_string_equal(harness_run(h, "fcall f 0"), "-ERR Function not found\r\n");
}

static void test_function_failed_replace_keeps_the_old(void **state) {
    struct harness *h = *state;
    load(h, LIB, false);
    assert_true(strstr(load(h, "#!lua name=lib\nredis.register_function('g',function() end) nosuch()", true), "-ERR Error reg"));
    assert_true(strstr(load(h, "#!lua name=lib\nwhile true do end", true), "FUNCTION LOAD timeout"));
    assert_string_equal(harness_run(h, "fcall f 0"), "*1\r\n:1\r\n");
}

static void test_function_loading_sees_little(void **state) {
    struct harness *h = *state;
    assert_true(strstr(load(h, "#!lua name=a\nredis.call('get','k')", false), "nonexistent global variable 'call'"));
    assert_true(strstr(load(h, "#!lua name=a\nlocal x = string", false), "nonexistent global variable 'string'"));
    assert_true(strstr(load(h, "#!lua name=a\nx = 1", false), "Attempt to modify a readonly table"));
    load(h, "#!lua name=a\nlocal r = redis redis.register_function('f',function() return r.call('get','k') end)", false);
    assert_true(strstr(harness_run(h, "fcall f 0"), "nonexistent global variable 'call'"));
}

static void test_function_dump_restores(void **state) {
    struct harness *h = *state;
    load(h, LIB, false);
    const char *reply = harness_run(h, "function dump");
    size_t len = (size_t)atol(reply + 1);
    char *payload = mem_memdup0(strchr(reply, '\n') + 1, len);
    const struct slice restore[] = { SLICE_LIT("function"), SLICE_LIT("restore"), { payload, len }, SLICE_LIT("flush") };
    assert_string_equal(harness_run_argv(h, 3, restore), "-ERR Library lib already exists\r\n");
    assert_string_equal(harness_run_argv(h, 4, restore), OK);
    harness_run(h, "function flush");
    assert_string_equal(harness_run_argv(h, 3, restore), OK);
    assert_string_equal(harness_run(h, "fcall f 0"), "*1\r\n:1\r\n");
    payload[2] ^= 1;
    assert_string_equal(harness_run_argv(h, 4, restore), "-ERR DUMP payload version or checksum are wrong\r\n");
    assert_string_equal(harness_run(h, "fcall f 0"), "*1\r\n:2\r\n");
    mem_free(payload);
}

/* What redis-server 7.0.15 made of a library whose text it compresses. */
static void test_function_restores_redis_servers(void **state) {
    struct harness *h = *state;
    static const char payload[] = "\xf5\xc3\x40NAs\x1f#!lua name=big\nredis.register_fu\x0bnction('bf',\xe0\x00\r\x12) return 1 "
                                  "end)\n--x\xe0\xff\x00\xe0\x18\x00\x01xx\n\x00\x85\xa1\x04)\xb2\x8cu\x1b";
    const struct slice restore[] = { SLICE_LIT("function"), SLICE_LIT("restore"), { payload, sizeof payload - 1 } };
    assert_string_equal(harness_run_argv(h, 3, restore), OK);
    assert_string_equal(harness_run(h, "fcall bf 0"), ":1\r\n");
}

static void test_script_kill_when_nothing_runs(void **state) {
    struct harness *h = *state;
    assert_string_equal(harness_run(h, "script kill"), "-NOTBUSY No scripts in execution right now.\r\n");
    assert_string_equal(harness_run(h, "function kill"), "-NOTBUSY No scripts in execution right now.\r\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, harness_setup, harness_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_script_values_become_replies),
        T(test_script_values_in_resp3),
        T(test_script_commands_tell_of_their_effects),
        T(test_script_numbers_become_arguments),
        T(test_script_propagates_as_told),
        T(test_script_in_transaction),
        T(test_script_errors),
        T(test_script_errors_are_counted_once),
        T(test_script_cannot_change_what_others_see),
        T(test_script_reads_no_compiled_code),
        T(test_script_load_survives_collection),
        T(test_script_sizes_are_checked),
        T(test_script_read_only),
        T(test_script_out_of_memory),
        T(test_script_cache),
        T(test_function_load_and_call),
        T(test_function_failed_replace_keeps_the_old),
        T(test_function_loading_sees_little),
        T(test_function_dump_restores),
        T(test_function_restores_redis_servers),
        T(test_script_kill_when_nothing_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
