/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line: one file a verb, one table of verbs (cli/main.c), one parser. A verb says what
 * it takes in a struct cli_verb; help, shell completion and the parser all read that.
 */
#ifndef VPS_CLI_H
#define VPS_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/str.h"
#include "images/images.h"
#include "runtime/vps.h"

/* Exit codes: stable, documented in vps(1). exec, enter, run and start --attach return the
 * payload's own. */
enum cli_exit {
	EXIT_OK = 0,
	EXIT_USAGE = 2,
	EXIT_SYSTEM = 3,
	EXIT_RESOURCE = 4,
	EXIT_UNSUPPORTED = 5,
	EXIT_BADIMAGE = 6,
	EXIT_NETWORK = 7,
	EXIT_EXEC = 8,
	EXIT_LOCKED = 9,
	EXIT_TIMEOUT = 10,
	EXIT_CONF = 11,
	EXIT_EXISTS = 12,
	EXIT_NOIMAGE = 13,
	EXIT_NOVPS = 14,
	EXIT_STATE = 15,
	EXIT_CANNOT_EXEC = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_INTERRUPTED = 130,
};
int cli_exit_code(int r); /* of a negative result */

struct cli_opt {
	const char *name; /* without dashes */
	char letter;	  /* 0: none */
	const char *arg;  /* NULL: a flag */
	const char *help;
};

enum cli_complete {
	COMPLETE_NONE,
	COMPLETE_VPS,
	COMPLETE_VPS_RUNNING,
	COMPLETE_VPS_STOPPED,
	COMPLETE_IMAGE,
	COMPLETE_FILE
};

struct cli;
struct cli_verb {
	const char *name;
	const char *alias; /* "rm destroy": space separated, or NULL */
	const char *group; /* heading in `vps help`; NULL: hidden */
	const char *args;  /* "NAME [COMMAND [ARG...]]" */
	const char *summary;
	const char *text;  /* more, for help VERB; NULL */
	const struct cli_opt *opts; /* ended by a NULL name; may be NULL */
	bool spec_opts;	   /* takes the options of spec_options() */
	/* > 0: everything after that many arguments is the command's own; -1: after "--" */
	int stop_after;
	int min_args, max_args; /* -1: any number */
	enum cli_complete complete;
	const struct cli_verb *sub; /* "image", "host": verbs below, ended by a NULL name */
	int (*run)(struct cli *c);
};

struct cli_given { const char *name; const char *value; bool spec; };

struct cli {
	char **argv; /* as main got it */
	const struct cli_verb *verb;
	char path[48]; /* "vps image import" */
	struct cli_given *given;
	size_t n_given, cap_given;
	char **args; /* positional, NULL-terminated */
	int n_args;
	char **own; /* strv: arguments that are not argv's */
	char **command; /* behind "--" or after stop_after; NULL when there was none */
	bool json, quiet;
	struct vps_host_opts host_opts;
	struct vps_host *host;
};

extern const struct cli_verb cli_verbs[];
extern const struct cli_opt cli_globals[];

/* ---- parsing ------------------------------------------------------------- */
int cli_parse(struct cli *c, int argc, char **argv, struct vps_err *err);
bool cli_flag(const struct cli *c, const char *name);
const char *cli_value(const struct cli *c, const char *name); /* the last one, or NULL */
/* All settings of spec_options() as strv "option=value", in the order given. */
int cli_spec_settings(const struct cli *c, char ***ret);
/* The nearest word of a list (edit distance ≤ 2), or NULL. */
const char *cli_nearest(const char *word, const char *(*at)(size_t i, void *arg), void *arg);

/* ---- running -------------------------------------------------------------- */
/* The host of --root/--run/--config, opened at first use. */
int cli_host(struct cli *c, struct vps_err *err);
int cli_images(struct cli *c, struct img_store **ret, struct vps_err *err);
/* "vps: <message>" on stderr, escaped; returns the exit code for r. */
int cli_fail(const struct cli *c, int r, const struct vps_err *err);
/* The same for a command inside; the exit code is a shell's: 127 not found, 126 not to be run. */
int cli_exec_fail(const struct cli *c, int r, const struct vps_err *err);
/* What this host enforces only in part of a definition, on stderr, not with -q. */
void cli_warn_caveats(struct cli *c, const struct vps_spec *s);
/* A usage error with the verb's usage line. */
int cli_usage(const struct cli *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Names of the arguments, or with --all every VPS whose status is in the mask (1 << status). */
int cli_names(struct cli *c, unsigned all_mask, char ***ret, struct vps_err *err);
/* An argument that begins a uuid becomes that VPS's id, for verbs that look through lists
 * themselves. What is an id or a name, or nothing of all that, stays as it is. */
int cli_uuid_args(struct cli *c, struct vps_err *err);
/* fn for each name; more than one: in up to --parallel processes (default: 2 a CPU, at most 16).
 * Prints the name (not with -q) as each is done, errors at once; the first failure's exit code. */
int cli_each(struct cli *c, char *const *names,
	     int (*fn)(struct cli *c, const char *name, struct vps_err *err));
/* fn for each of 0 to n - 1, in up to `most` processes at once; the first failure's exit code. A signal goes to all. */
int cli_spread(struct cli *c, size_t n, unsigned most, int (*fn)(struct cli *c, size_t i, void *arg), void *arg);
/* --timeout in milliseconds, dflt when it was not given. */
int cli_timeout(const struct cli *c, int dflt, int *ret, struct vps_err *err);
/* True once SIGINT, SIGTERM or SIGHUP came. */
extern volatile int cli_interrupted;

/* ---- printing -------------------------------------------------------------- */
void cli_help(FILE *out, const struct cli_verb *v, const char *path);
void cli_help_all(FILE *out);
/* Print a finished JSON text and a newline. */
int cli_print_json(struct strbuf *sb);
void cli_print_escaped(FILE *out, const char *s);

/* A table: columns of text, right-aligned numbers, widths found by looking. */
struct table;
struct table *table_new(size_t n_cols);
void table_head(struct table *t, size_t col, const char *title, bool right);
void table_cell(struct table *t, size_t col, const char *text); /* copies, escapes */
void table_row(struct table *t); /* ends a row */
void table_fit(struct table *t, size_t rows); /* print only so many; 0: all */
void table_print(struct table *t, FILE *out, bool head);
struct table *table_free(struct table *t);
static inline void table_freep(struct table **t) { *t = table_free(*t); }

/* Progress bars on stderr when it is a terminal; else NULL-like (fn only watches
 * cli_interrupted). */
const struct progress *cli_progress(struct cli *c);
void cli_progress_end(void);
/* No bars from here on: other processes have the terminal as well. */
void cli_progress_off(void);

/* ---- terminals -------------------------------------------------------------- */
int term_raw(int fd);	   /* remembers; restored by term_restore or at exit */
int term_keys(int fd);	   /* single keys without echo, signals and output as they were */
void term_restore(void);
int term_size(int fd, unsigned short *rows, unsigned short *cols);
/* Relay an exec: our stdin/out/err and the handle's pty, or the pipe ends in `pipes`, until the
 * command is over. Its exit status. */
int relay_exec(struct vps_exec_handle *x, int pipes[3]);
/* Relay a console until it ends, or (with escape: a terminal) the operator types Enter, Esc,
 * '.'. The exit code of init when it ended, else 0. *ret_why: one of these, or the signal that
 * we got. */
enum { RELAY_ENDED = 0, RELAY_DETACHED = -1 };
int relay_console(struct vps_console *con, bool escape, int *ret_why);

/* Become vps-image with the same command line (VPS_LIGHT builds). */
int cli_exec_image(struct cli *c);

/* ---- verbs that share code -------------------------------------------------- */
int cli_make_spec(struct cli *c, const char *name, struct vps_spec *ret, struct vps_err *err);
/* Open the console (fresh when started with hold_for_attach) and relay; signals go to init. Exit
 * code. */
int cli_attach(struct cli *c, const char *name, struct vps_err *err);
/* "512M", "-" for SPEC_UNSET or not known, "max". */
const char *cli_size(uint64_t v, char *buf, size_t len);
/* The JSON of one VPS, the same in list, inspect, create. */
void cli_json_vps(struct json_out *o, const char *key, const struct vps_info *i);
/* What a verb prints that made a VPS: its name, with --id its number, with --json all of it. Exit code. */
int cli_print_new(struct cli *c, const struct vps_info *i);

#endif
