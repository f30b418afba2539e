/* SPDX-License-Identifier: GPL-2.0-or-later */
/* completion, help, version. The shell asks us for words (`vps _complete WORD...`), so that the
 * completion never knows less than the parser. */
#include "cli/verbs.h"

#include <string.h>

static const char bash_script[] =
	"# bash completion for vps; install by: vps completion bash > /etc/bash_completion.d/vps\n"
	"_vps() {\n"
	"\tlocal cur=${COMP_WORDS[COMP_CWORD]} word\n"
	"\tCOMPREPLY=()\n"
	"\twhile IFS= read -r word; do\n"
	"\t\tif [[ $word == :files ]]; then\n"
	"\t\t\tcompopt -o default 2>/dev/null\n"
	"\t\t\tcontinue\n"
	"\t\tfi\n"
	"\t\t[[ $word == \"$cur\"* ]] && COMPREPLY+=(\"$word\")\n"
	"\tdone < <(\"${COMP_WORDS[0]}\" _complete -- \"${COMP_WORDS[@]:1:COMP_CWORD}\" "
	"2>/dev/null)\n"
	"}\n"
	"complete -F _vps vps\n";

int verb_completion(struct cli *c)
{
	if (c->n_args && !str_eq(c->args[0], "bash"))
		return cli_usage(c, "'%s': only bash so far", c->args[0]);
	fputs(bash_script, stdout);
	return EXIT_OK;
}

int verb_version(struct cli *c)
{
	printf("vps %s\n", PACKAGE_VERSION);
	return EXIT_OK;
}

static const struct cli_verb *verb_named(const struct cli_verb *verbs, const char *name)
{
	for (const struct cli_verb *v = verbs; v && name && v->name; v++) {
		if (str_eq(v->name, name))
			return v;
		const char *at = v->alias ? strstr(v->alias, name) : NULL;
		size_t n = strlen(name);
		if (at && (at == v->alias || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
			return v;
	}
	return NULL;
}

int verb_help(struct cli *c)
{
	if (!c->n_args) {
		cli_help_all(stdout);
		return EXIT_OK;
	}
	char path[64];
	const struct cli_verb *v = verb_named(cli_verbs, c->args[0]);
	if (v && c->n_args > 1 && v->sub)
		v = verb_named(v->sub, c->args[1]);
	if (!v)
		return cli_usage(c, "no command '%s'", c->args[c->n_args - 1]);
	snprintf(path, sizeof(path), "vps %s%s%s", c->args[0], c->n_args > 1 ? " " : "",
		 c->n_args > 1 ? c->args[1] : "");
	cli_help(stdout, v, path);
	return EXIT_OK;
}

static void verb_words(const struct cli_verb *verbs)
{
	for (const struct cli_verb *v = verbs; v->name; v++)
		if (v->group)
			puts(v->name);
}

static void option_words(const struct cli_verb *v)
{
	const struct cli_opt *lists[] = {v->opts, cli_globals};
	for (size_t l = 0; l < ARRAY_LEN(lists); l++)
		for (const struct cli_opt *o = lists[l]; o && o->name; o++)
			if (o->help)
				printf("--%s\n", o->name);
	for (const struct spec_option *o = spec_options(); v->spec_opts && o->name; o++)
		printf("--%s\n", o->name);
}

static void vps_words(struct cli *c, enum cli_complete what)
{
	struct vps_info *list = NULL;
	size_t n = 0;
	if (cli_host(c, NULL) < 0 || vps_list(c->host, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		bool up = list[i].status != VPS_STOPPED && list[i].status != VPS_BROKEN;
		if ((what == COMPLETE_VPS_RUNNING && !up) || (what == COMPLETE_VPS_STOPPED && up))
			continue;
		if (list[i].spec.name)
			puts(list[i].spec.name);
	}
	vps_list_free(list, n);
}

static void image_words(struct cli *c)
{
	struct img_store *s = NULL;
	struct img_info *list = NULL;
	size_t n = 0;
	if (cli_images(c, &s, NULL) < 0 || img_list(s, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++)
		for (char **r = list[i].refs; r && *r; r++)
			puts(*r);
	img_list_free(list, n);
}

/* The value of which option is being typed? */
static bool option_value(struct cli *c, const struct cli_verb *v, const char *prev)
{
	if (!str_starts(prev, "--"))
		return false;
	if (str_eq(prev, "--image")) {
		image_words(c);
		return true;
	}
	for (const struct cli_opt *o = v->opts; o && o->name; o++)
		if (o->arg && str_eq(o->name, prev + 2))
			return puts(":files"), true;
	for (const struct spec_option *o = spec_options(); v->spec_opts && o->name; o++)
		if (o->arg && str_eq(o->name, prev + 2))
			return puts(":files"), true;
	return false;
}

int verb_complete(struct cli *c)
{
	char **w = c->command;
	size_t n = strv_len(w);
	const struct cli_verb *v = n > 1 ? verb_named(cli_verbs, w[0]) : NULL;
	if (n <= 1)
		return verb_words(cli_verbs), EXIT_OK;
	if (!v)
		return EXIT_OK;
	if (v->sub && n == 2)
		return verb_words(v->sub), EXIT_OK;
	if (v->sub && !(v = verb_named(v->sub, w[1])))
		return EXIT_OK;
	if (option_value(c, v, w[n - 2]))
		return EXIT_OK;
	if (w[n - 1][0] == '-')
		option_words(v);
	else if (v->complete == COMPLETE_IMAGE)
		image_words(c);
	else if (v->complete == COMPLETE_FILE)
		puts(":files");
	else if (v->complete != COMPLETE_NONE)
		vps_words(c, v->complete);
	return EXIT_OK;
}
