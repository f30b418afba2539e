/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/cli.h"

#include <string.h>

static void print_opt(FILE *out, char letter, const char *name, const char *arg, const char *help)
{
	char left[64];
	int n = letter ? snprintf(left, sizeof(left), "  -%c, --%s", letter, name)
		       : snprintf(left, sizeof(left), "      --%s", name);
	if (arg)
		n += snprintf(left + n, sizeof(left) - n, " %s", arg);
	if (n < 30)
		fprintf(out, "%-30s %s\n", left, help);
	else
		fprintf(out, "%s\n%-30s %s\n", left, "", help);
}

static void print_opts(FILE *out, const struct cli_opt *opts)
{
	for (; opts && opts->name; opts++)
		if (opts->help) /* without: another spelling, accepted and not advertised */
			print_opt(out, opts->letter, opts->name, opts->arg, opts->help);
}

/* The table keeps a group's options together; a new name is a new heading. */
static void print_spec_opts(FILE *out)
{
	const char *group = NULL;
	for (const struct spec_option *o = spec_options(); o->name; o++) {
		if (!str_eq(group, o->group))
			fprintf(out, "\n%s:\n", group = o->group);
		print_opt(out, 0, o->name, o->arg, o->help);
	}
}

static void print_verbs(FILE *out, const struct cli_verb *verbs)
{
	for (const struct cli_verb *v = verbs; v->name; v++)
		if (v->group)
			fprintf(out, "  %-12s %s\n", v->name, v->summary);
}

void cli_help(FILE *out, const struct cli_verb *v, const char *path)
{
	fprintf(out, "Usage: %s %s%s\n%s.\n", path,
		v->sub			  ? "COMMAND "
		: v->opts || v->spec_opts ? "[OPTION...] "
					  : "",
		v->args ? v->args : "", v->summary);
	if (v->alias)
		fprintf(out, "Also known as: %s\n", v->alias);
	if (v->text)
		fprintf(out, "\n%s\n", v->text);
	if (v->sub) {
		fprintf(out, "\nCommands:\n");
		print_verbs(out, v->sub);
		return;
	}
	if (v->opts) {
		fprintf(out, "\nOptions:\n");
		print_opts(out, v->opts);
	}
	if (v->spec_opts)
		print_spec_opts(out);
	fprintf(out, "\nCommon options:\n");
	print_opts(out, cli_globals);
}

void cli_help_all(FILE *out)
{
	fprintf(out, "Usage: vps [--root DIR] [--run DIR] COMMAND [ARG...]\n"
		     "Virtual private servers: isolated Linux systems on one kernel.\n");
	const char *group = NULL;
	for (const struct cli_verb *v = cli_verbs; v->name; v++) {
		if (!v->group)
			continue;
		if (!str_eq(group, v->group))
			fprintf(out, "\n%s:\n", group = v->group);
		fprintf(out, "  %-12s %s\n", v->name, v->summary);
	}
	fprintf(out, "\n'vps COMMAND --help' tells more; vps(1) has exit codes and examples.\n");
}

int cli_usage(const struct cli *c, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "%s: ", c->path);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nUsage: %s %s\nTry '%s --help'.\n", c->path,
		c->verb->args ? c->verb->args : "", c->path);
	return EXIT_USAGE;
}
