/* Figures of commands (INFO commandstats, latencystats). What every command writes is kept apart for each thread that runs
 * commands, so that two threads never write the same line; readers add it up. */
#ifndef KETTLE_CMD_FIGURES_H
#define KETTLE_CMD_FIGURES_H

#include <stdint.h>

#include "base/hist.h"
#include "cmd/cmd.h"

#define FIGURES_SLOTS 68 /* threads that run commands, at most: I/O threads, and a few that apply what others have written */

struct figures;

struct figures *figures_new(int n_cmds); /* n_cmds: struct cmd.id is below it */
struct figures *figures_free(struct figures *f);
void figures_keep_latency(struct figures *f,
                          bool on); /* latency-tracking: the histograms grow, or stay as they are. Any thread */
/* One call of cmd. By the thread that owns the slot (0..FIGURES_SLOTS-1), no other. */
void figures_note(struct figures *f, unsigned slot, const struct cmd *cmd, uint64_t usec);
/* A command carried out; EXEC counts once, and so does each command in it for itself. ticks: of the clock (base/clock.h), 0 for
 * what is part of another command. As figures_note. */
void figures_count(struct figures *f, unsigned slot, uint64_t ticks);
/* Changes to the data set. As figures_note. */
void figures_add_dirty(struct figures *f, unsigned slot, uint64_t n);
uint64_t figures_dirty(const struct figures *f);
uint64_t figures_dirty_of(const struct figures *f, unsigned slot); /* of one thread, by itself */
/* Any thread. */
void figures_of(const struct figures *f, const struct cmd *cmd, uint64_t *ret_calls, uint64_t *ret_usec);
void figures_latency(const struct figures *f, const struct cmd *cmd, struct hist *into); /* adds to it; microseconds */
uint64_t figures_commands(const struct figures *f);
uint64_t figures_usec(const struct figures *f); /* the time all of them took */
/* Everything from zero. Takes effect for a slot when its thread writes next; readers see zeros at once. */
void figures_reset(struct figures *f);

#endif
