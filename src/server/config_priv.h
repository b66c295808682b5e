/* Between the configuration's files: the directive table and its values as text. Main thread at start-up; later under the CONFIG
 * SET lock. */
#ifndef KETTLE_SERVER_CONFIG_PRIV_H
#define KETTLE_SERVER_CONFIG_PRIV_H

#include "server/config.h"

enum dir_kind {
    DIR_BOOL,
    DIR_INT,
    DIR_MEM,
    DIR_OCTAL,
    DIR_ENUM,
    DIR_EVENTS, /* notify-keyspace-events: bits */
    DIR_STR,    /* stored in struct config at `off`, or as text in `other` when off is NO_FIELD */
    DIR_BIND,
    DIR_SAVE,
    DIR_OBUF_LIMIT,
    DIR_PERCENTILES,
    DIR_RENAME,
    DIR_USER,
    DIR_WORDS, /* free words, kept as text */
    DIR_LIST   /* repeatable; `min` words an item, quoted where needed, kept as text in `other` */
};
enum dir_flag {
    DIR_IMMUTABLE = 1, /* not by CONFIG SET */
    DIR_PROTECTED = 2, /* CONFIG SET only with enable-protected-configs */
    DIR_MULTI_ARG = 4, /* several words on one line */
    DIR_HIDDEN = 8,    /* only file: not in CONFIG GET (include, rename-command, user, loadmodule) */
    DIR_SECRET = 16,   /* wiped when freed */
    DIR_PERCENT = 32   /* DIR_MEM that takes "5%" too, kept as a negative number */
};

struct dir_enum {
    const char *name;
    int64_t value;
};

struct directive {
    const char *name, *alias;
    enum dir_kind kind;
    unsigned flags;
    size_t off;
    const char *def;
    int64_t min, max;
    const struct dir_enum *names;
};

#define NO_FIELD ((size_t)-1)

extern const struct directive directives[];
extern const int n_directives;

int directive_find(struct slice name); /* index by name or alias, -1 */
/* The value as CONFIG GET shows it, appended. c->lock held. */
void directive_get(const struct config *c, int i, struct buf *out);
/* Sets from words (one word, but for DIR_MULTI_ARG). NULL, or why not (static or thread-local). c->lock held. first: the first
 * such line of a file resets what the default put there. */
const char *directive_set(struct config *c, int i, int n, const struct slice *words, bool first);

/* Texts with a grammar of their own (config_check.c). NULL, or why not. Values without one are always fine. */
const char *directive_check(const char *name, int n, const struct slice *words);
/* Event classes of notify-keyspace-events: text to bits and back, each letter once, in Redis's order. */
const char *config_events_parse(struct slice v, int64_t *ret);
void config_events_text(int64_t on, struct buf *out);

#endif
