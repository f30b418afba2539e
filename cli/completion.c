/* SPDX-License-Identifier: GPL-2.0-or-later */
/* completion, help, version. The shell asks us for words (`vps _complete WORD...`), so that the
 * completion never knows less than the parser. */
#include "cli/verbs.h"

#include <string.h>

static const char bash_script[] =
	"# bash completion for vps, printed by: vps completion bash\n"
	"_vps() {\n"
	"\tlocal breaks=${COMP_WORDBREAKS//[^:=]/} words=() word cur head= pre= i\n"
	"\tCOMPREPLY=()\n"
	"\t# bash takes debian:12 and --net=none for three words each\n"
	"\tfor ((i = 1; i <= COMP_CWORD; i++)); do\n"
	"\t\tword=${COMP_WORDS[i]}\n"
	"\t\tif [[ -n $breaks && ${#words[@]} -gt 0 && "
	"($word == [$breaks] || ${words[-1]} == *[$breaks]) ]]; then\n"
	"\t\t\twords[-1]+=$word\n"
	"\t\telse\n"
	"\t\t\twords+=(\"$word\")\n"
	"\t\tfi\n"
	"\tdone\n"
	"\tcur=${words[-1]}\n"
	"\tif [[ $cur == --*=* ]]; then\n"
	"\t\t[[ $breaks == *=* ]] || pre=${cur%%=*}=\n"
	"\t\twords[-1]=${cur%%=*} cur=${cur#*=}\n"
	"\t\twords+=(\"$cur\")\n"
	"\tfi\n"
	"\t[[ -z $breaks ]] || head=${cur%\"${cur##*[$breaks]}\"}\n"
	"\twhile IFS= read -r word; do\n"
	"\t\tif [[ $word == :files ]]; then\n"
	"\t\t\tcompopt -o default 2>/dev/null\n"
	"\t\t\tcontinue\n"
	"\t\tfi\n"
	"\t\t[[ $word == \"$cur\"* ]] || continue\n"
	"\t\tCOMPREPLY+=(\"$pre${word#\"$head\"}\")\n"
	"\t\t[[ $word != *[:=] ]] || compopt -o nospace 2>/dev/null\n"
	"\tdone < <(\"${COMP_WORDS[0]}\" _complete -- \"${words[@]}\" 2>/dev/null)\n"
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

/* after: what follows the name */
static void vps_words(struct cli *c, enum cli_complete what, const char *after)
{
	struct vps_info *list = NULL;
	size_t n = 0;
	if (cli_host(c, NULL) < 0 || vps_list(c->host, &list, &n, NULL) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		bool up = !vps_status_is_down(list[i].status);
		if ((what == COMPLETE_VPS_RUNNING && !up) || (what == COMPLETE_VPS_STOPPED && up))
			continue;
		if (list[i].spec.name)
			printf("%s%s\n", list[i].spec.name, after);
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

/* Where the value is one of a few words. */
static const struct {
	const char *option, *words;
} values[] = {
	{"isolation", "container vm"},
	{"net", "routed bridge= macvlan= none"},
	{"ip", "auto auto6 none"},
	{"restart", "no on-failure always"},
	{"feature", "nesting fuse keyctl tun i386"},
	{"disk-backend", "auto quota btrfs loop dir"},
	{"console", "pty pipes"},
	{"for", "stopped running ready deleted"},
	{"format", "rootfs docker-archive oci oci-dir"},
	{"signal", "HUP INT QUIT KILL USR1 USR2 TERM CONT STOP RTMIN+3"},
	{"event", "create set rename rebuild delete start start-failed ready pause unpause stop exit "
		  "restart oom adopt lost teardown-failed"},
};

static void value_words(struct cli *c, const char *option)
{
	const char *words = NULL, *col;
	for (size_t i = 0; i < ARRAY_LEN(values); i++)
		if (str_eq(values[i].option, option))
			words = values[i].words;
	for (; words && *words; words += strcspn(words, " "), words += *words == ' ')
		printf("%.*s\n", (int)strcspn(words, " "), words);
	if (str_eq(option, "image"))
		return image_words(c);
	if (str_eq(option, "output") || str_eq(option, "sort"))
		for (size_t i = 0; (col = list_column(i)); i++)
			puts(col);
	else if (!words)
		puts(":files");
}

/* Is the value of an option being typed? */
static bool option_value(struct cli *c, const struct cli_verb *v, const char *prev)
{
	bool is_long = str_starts(prev, "--");
	if (prev[0] != '-' || !prev[1] || (!is_long && prev[2]))
		return false;
	for (const struct cli_opt *o = v->opts; o && o->name; o++)
		if (o->arg && (is_long ? str_eq(o->name, prev + 2) : o->letter == prev[1]))
			return value_words(c, o->name), true;
	for (const struct spec_option *o = spec_options(); is_long && v->spec_opts && o->name; o++)
		if (o->arg && (str_eq(o->name, prev + 2) ||
			       (o->alias && str_eq(o->alias, prev + 2))))
			return value_words(c, o->name), true;
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
		vps_words(c, v->complete, "");
	if (v->run == verb_cp)
		vps_words(c, COMPLETE_VPS, ":");
	else if (v->run == verb_help && n == 2)
		verb_words(cli_verbs);
	return EXIT_OK;
}
