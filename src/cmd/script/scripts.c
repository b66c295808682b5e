/* An engine's scripting: interpreters, caches, figures. See script.h. */
#include "base/alloc.h"
#include "base/fiber.h"
#include "cmd/script/script_priv.h"

#define DEFAULT_THRESHOLD_MS 5000
#define FIRST_STATE 0x1234abcd330eULL /* of the random numbers */

static struct slice script_key(const void *item) {
    return (struct slice){ ((const struct script *)item)->sha, SHA1_HEX };
}

static struct slice function_key(const void *item) {
    return slice_cstr(((const struct function *)item)->name);
}

struct scripts *scripts_new(struct engine *e) {
    struct scripts *sc = mem_zalloc(sizeof *sc);
    sc->eng = e;
    pthread_mutex_init(&sc->about_lock, NULL);
    atomic_store(&sc->threshold_ms, DEFAULT_THRESHOLD_MS);
    sc->random = FIRST_STATE;
    sc->cache_type.key = script_key;
    sc->fn_type.key = function_key;
    dict_init(&sc->cache, &sc->cache_type);
    dict_init(&sc->functions, &sc->fn_type);
    return sc;
}

struct scripts *scripts_free(struct scripts *sc) {
    if (!sc) return NULL;
    cache_flush(sc, false);
    libraries_flush(sc, false);
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        fiber_free(sc->stacks[i].fiber);
        mem_free(sc->stacks[i].argv);
        effects_clear(&sc->stacks[i].effects);
    }
    pthread_mutex_destroy(&sc->about_lock);
    obuf_clear(&sc->out);
    buf_done(&sc->flat);
    mem_free(sc->argv);
    mem_free(sc->numbers);
    mem_free(sc->libs);
    mem_free(sc);
    return NULL;
}

/* ---- random numbers: the sequence of lrand48(3), which begins alike after each start ---- */

void scripts_seed(struct scripts *sc, int32_t seed) {
    sc->random = (uint64_t)(uint32_t)seed << 16 | 0x330e;
}

int32_t scripts_random(struct scripts *sc) {
    sc->random = (sc->random * 0x5deece66dULL + 0xb) & ((1ULL << 48) - 1);
    return (int32_t)(sc->random >> 17);
}

/* ---- interpreters ---- */

struct vm *scripts_eval_vm(struct scripts *sc) {
    if (!sc->eval) sc->eval = vm_new(sc, false);
    return sc->eval;
}

struct vm *scripts_fn_vm(struct scripts *sc) {
    if (!sc->fn) sc->fn = vm_new(sc, true);
    return sc->fn;
}

void scripts_note_memory(struct scripts *sc) {
    size_t eval = sc->eval ? atomic_load_explicit(&sc->eval->bytes, memory_order_relaxed) : 0;
    size_t fn = sc->fn ? atomic_load_explicit(&sc->fn->bytes, memory_order_relaxed) : 0;
    atomic_store_explicit(&sc->vm_eval_bytes, eval, memory_order_relaxed);
    atomic_store_explicit(&sc->vm_fn_bytes, fn, memory_order_relaxed);
}

#define RLX(x) atomic_load_explicit(&(x), memory_order_relaxed)

void scripts_figures_get(const struct scripts *sc, struct scripts_figures *ret) {
    *ret = (struct scripts_figures){ .vm_eval = RLX(sc->vm_eval_bytes),
                                     .vm_functions = RLX(sc->vm_fn_bytes),
                                     .scripts_eval = RLX(sc->scripts_bytes),
                                     .functions = RLX(sc->functions_bytes),
                                     .n_scripts = RLX(sc->n_scripts),
                                     .n_functions = RLX(sc->n_functions),
                                     .n_libraries = RLX(sc->n_libraries) };
}
