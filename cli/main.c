/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"
#include "cli/verbs.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const struct cli_opt cli_globals[] = {
	{"json", 0, NULL, "print JSON"},
	{"quiet", 'q', NULL, "print only what was asked for"},
	{"root", 0, "DIR", "state tree (default /var/lib/vps, or $VPS_ROOT)"},
	{"run", 0, "DIR", "run tree (default /run/vps, or $VPS_RUN)"},
	{"config", 0, "FILE", "configuration (default " SYSCONFDIR "/vps/vps.conf, or $VPS_CONF)"},
	{"help", 'h', NULL, "show this help"},
	{0},
};

volatile int cli_interrupted;

/* The first signal asks running work to unwind; a second one ends us at once. Without SA_RESTART,
 * so that waits end. */
static void on_signal(int sig)
{
	cli_interrupted = sig;
	signal(sig, SIG_DFL);
}

static void set_signals(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN); /* a closed pipe is an error of write(2), told as such */
}

static bool has_word(const char *words, const char *w)
{
	size_t n = strlen(w);
	for (const char *p = words; p && *p;) {
		size_t len = strcspn(p, " ");
		if (len == n && memcmp(p, w, n) == 0)
			return true;
		p += len + (p[len] == ' ');
	}
	return false;
}

static const struct cli_verb *find_verb(const struct cli_verb *verbs, const char *name)
{
	for (const struct cli_verb *v = verbs; v->name; v++)
		if (str_eq(v->name, name) || has_word(v->alias, name))
			return v;
	return NULL;
}

static const char *verb_at(size_t i, void *arg)
{
	for (const struct cli_verb *v = arg; v->name; v++)
		if (v->group && i-- == 0)
			return v->name;
	return NULL;
}

static int no_verb(const struct cli_verb *verbs, const char *prefix, const char *name)
{
	const char *near = cli_nearest(name, verb_at, (void *)verbs);
	fprintf(stderr, "vps: unknown command '");
	cli_print_escaped(stderr, name);
	if (near)
		fprintf(stderr, "'; did you mean '%s %s'?\n", prefix, near);
	else
		fprintf(stderr, "'; see '%s --help'\n", prefix);
	return EXIT_USAGE;
}

/* Global options in front of the verb. Returns the index of the verb, or -1 after printing an
 * error. */
static int leading_options(struct cli *c, int argc, char **argv)
{
	static const struct cli_verb top = {.name = "vps"};
	c->verb = &top;
	int i = 1;
	while (i < argc && argv[i][0] == '-' && !str_eq(argv[i], "--version") &&
	       !str_eq(argv[i], "-V")) {
		bool pair = (str_eq(argv[i], "--root") || str_eq(argv[i], "--run") ||
			     str_eq(argv[i], "--config")) &&
			    i + 1 < argc;
		struct vps_err err = {0};
		int r = cli_parse(c, pair ? 2 : 1, argv + i, &err);
		c->args = (free(c->args), NULL);
		if (r < 0) {
			cli_fail(c, r, &err);
			return -1;
		}
		i += pair ? 2 : 1;
	}
	return i;
}

static int check_args(struct cli *c)
{
	const struct cli_verb *v = c->verb;
	if (c->n_args < v->min_args)
		return cli_usage(c, "%s",
				 c->n_args ? "an argument is missing" : "it wants an argument");
	if (v->max_args >= 0 && c->n_args > v->max_args) {
		autofree char *bad = str_escape(c->args[v->max_args]);
		return cli_usage(c, "unexpected argument '%s'", bad ? bad : "");
	}
	return 0;
}

static int run_verb(struct cli *c, int argc, char **argv)
{
	struct vps_err err = {0};
	int r = cli_parse(c, argc, argv, &err);
	if (r < 0) {
		cli_fail(c, r, &err);
		fprintf(stderr, "Try '%s --help'.\n", c->path);
		return EXIT_USAGE;
	}
	if (cli_flag(c, "help")) {
		cli_help(stdout, c->verb, c->path);
		return EXIT_OK;
	}
	r = check_args(c);
	return r ? r : c->verb->run(c);
}

/* Output that did not arrive is a failure: `vps list > /dev/full` must not say 0. */
static int flush_out(int code)
{
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "vps: write to standard output: %s\n", strerror(errno));
		return code ? code : EXIT_SYSTEM;
	}
	return code;
}

static int dispatch(struct cli *c, int argc, char **argv)
{
	int i = leading_options(c, argc, argv);
	if (i < 0)
		return EXIT_USAGE;
	if (i >= argc || cli_flag(c, "help")) {
		cli_help_all(stdout);
		return i >= argc && argc > 1 && !cli_flag(c, "help") ? EXIT_USAGE : EXIT_OK;
	}
	const char *name = argv[i++];
	if (str_eq(name, "--version") || str_eq(name, "-V"))
		name = "version";
	c->verb = find_verb(cli_verbs, name);
	if (!c->verb)
		return no_verb(cli_verbs, "vps", name);
	snprintf(c->path, sizeof(c->path), "vps %s", c->verb->name);
	if (c->verb->sub) {
		if (i >= argc || str_eq(argv[i], "--help") || str_eq(argv[i], "-h")) {
			cli_help(i < argc ? stdout : stderr, c->verb, c->path);
			return i < argc ? EXIT_OK : EXIT_USAGE;
		}
		const struct cli_verb *sub = find_verb(c->verb->sub, argv[i]);
		if (!sub)
			return no_verb(c->verb->sub, c->path, argv[i]);
		i++;
		c->verb = sub;
		snprintf(c->path + strlen(c->path), sizeof(c->path) - strlen(c->path), " %s",
			 sub->name);
	}
	return run_verb(c, argc - i, argv + i);
}

/* A closed fd 0, 1 or 2 would be a file of ours soon, and what a tenant says would be written to
 * that. */
static bool have_stdio(void)
{
	int fd;
	do {
		fd = open("/dev/null", O_RDWR | O_NOCTTY);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int main(int argc, char **argv)
{
	if (!have_stdio())
		return EXIT_SYSTEM;
	setlocale(LC_CTYPE, "C.UTF-8"); /* column widths; never the caller's choice of messages */
	set_signals();
	struct cli c = {.argv = argv};
	int code = dispatch(&c, argc, argv);
	cli_progress_end();
	vps_host_close(c.host);
	free(c.given);
	free(c.args);
	strv_free(c.own);
	return flush_out(code);
}
