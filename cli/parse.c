/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one parser: --opt value, --opt=value, -o value, -ovalue, joined flags, "--". Options and
 * arguments may mix, up to the point where a verb says that the rest is somebody else's command
 * line. */
#include "cli/cli.h"

#include <string.h>

struct opt_match {
	const char *name; /* canonical */
	bool takes_value;
	bool spec;
	bool negated; /* --no-X of a flag of the definition */
};

static bool find_in(const struct cli_opt *opts, const char *name, size_t len, char letter,
		    struct opt_match *m)
{
	for (; opts && opts->name; opts++) {
		bool hit = letter ? opts->letter == letter
				  : strlen(opts->name) == len && memcmp(opts->name, name, len) == 0;
		if (hit) {
			*m = (struct opt_match){.name = opts->name, .takes_value = opts->arg};
			return true;
		}
	}
	return false;
}

static bool same(const char *a, const char *name, size_t len)
{
	return a && strlen(a) == len && memcmp(a, name, len) == 0;
}

static bool find_spec(const char *name, size_t len, struct opt_match *m)
{
	bool no = len > 3 && memcmp(name, "no-", 3) == 0;
	for (const struct spec_option *o = spec_options(); o->name; o++) {
		if (same(o->name, name, len) || same(o->alias, name, len)) {
			*m = (struct opt_match){
				.name = o->name, .takes_value = o->arg, .spec = true};
			return true;
		}
		if (no && !o->arg && same(o->name, name + 3, len - 3)) {
			*m = (struct opt_match){.name = o->name, .spec = true, .negated = true};
			return true;
		}
	}
	return false;
}

/* Letters of settings that every docker user's fingers know. */
static const char *spec_letter(char letter)
{
	return letter == 'e' ? "env" : letter == 'm' ? "memory" : letter == 'v' ? "mount" : NULL;
}

static bool find_opt(const struct cli *c, const char *name, size_t len, char letter,
		     struct opt_match *m)
{
	if (find_in(c->verb->opts, name, len, letter, m) ||
	    find_in(cli_globals, name, len, letter, m))
		return true;
	if (letter)
		name = spec_letter(letter);
	return c->verb->spec_opts && name && find_spec(name, letter ? strlen(name) : len, m);
}

/* All long names that the verb takes, for "did you mean". */
static const char *name_at(size_t i, void *arg)
{
	const struct cli *c = arg;
	const struct cli_opt *lists[] = {c->verb->opts, cli_globals};
	for (size_t l = 0; l < ARRAY_LEN(lists); l++)
		for (const struct cli_opt *o = lists[l]; o && o->name; o++)
			if (i-- == 0)
				return o->name;
	for (const struct spec_option *o = spec_options(); c->verb->spec_opts && o->name; o++)
		if (i-- == 0)
			return o->name;
	return NULL;
}

static unsigned distance(const char *a, const char *b)
{
	enum { MAX = 32 };
	size_t n = strlen(a), m = strlen(b);
	if (n >= MAX || m >= MAX)
		return MAX;
	unsigned row[MAX + 1];
	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diag = row[0];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = diag + (a[i - 1] != b[j - 1]);
			diag = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[m];
}

const char *cli_nearest(const char *word, const char *(*at)(size_t i, void *arg), void *arg)
{
	const char *best = NULL, *w;
	unsigned best_d = strlen(word) > 4 ? 3 : 2; /* below this */
	for (size_t i = 0; (w = at(i, arg)); i++) {
		unsigned d = distance(word, w);
		if (d < best_d) {
			best_d = d;
			best = w;
		}
	}
	return best;
}

static int give(struct cli *c, const struct opt_match *m, const char *value)
{
	int r = mem_grow(c->given, c->n_given, c->cap_given);
	if (r < 0)
		return r;
	if (!value && m->spec)
		value = m->negated ? "no" : "yes";
	c->given[c->n_given++] =
		(struct cli_given){.name = m->name, .value = value, .spec = m->spec};
	return 0;
}

static int unknown(struct cli *c, const char *arg, size_t len, struct vps_err *err)
{
	autofree char *name = strndup(arg, len);
	const char *near = name ? cli_nearest(name, name_at, c) : NULL;
	if (near)
		return vps_err_set(err, VPS_EUSAGE, "unknown option '--%s'; did you mean '--%s'?",
				   name, near);
	return vps_err_set(err, VPS_EUSAGE, "unknown option '--%s'", name ? name : "");
}

/* One "--name[=value]". *i moves when the value is the next argument. */
static int parse_long(struct cli *c, int argc, char **argv, int *i, struct vps_err *err)
{
	const char *arg = argv[*i] + 2, *eq = strchr(arg, '=');
	size_t len = eq ? (size_t)(eq - arg) : strlen(arg);
	struct opt_match m;
	if (!find_opt(c, arg, len, 0, &m))
		return unknown(c, arg, len, err);
	if (!m.takes_value) {
		if (eq && !(m.spec && !m.negated))
			return vps_err_set(err, VPS_EUSAGE, "option '--%s' takes no value", m.name);
		return give(c, &m, eq ? eq + 1 : NULL);
	}
	if (!eq && *i + 1 >= argc)
		return vps_err_set(err, VPS_EUSAGE, "option '--%s' wants a value", m.name);
	return give(c, &m, eq ? eq + 1 : argv[++*i]);
}

/* One "-abc" or "-ovalue". */
static int parse_short(struct cli *c, int argc, char **argv, int *i, struct vps_err *err)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		struct opt_match m;
		if (!find_opt(c, NULL, 0, *p, &m))
			return vps_err_set(err, VPS_EUSAGE, "unknown option '-%c'", *p);
		if (!m.takes_value) {
			int r = give(c, &m, NULL);
			if (r < 0)
				return r;
			continue;
		}
		if (p[1])
			return give(c, &m, p + 1);
		if (*i + 1 >= argc)
			return vps_err_set(err, VPS_EUSAGE, "option '-%c' wants a value", *p);
		return give(c, &m, argv[++*i]);
	}
	return 0;
}

static void take_globals(struct cli *c)
{
	c->json |= cli_flag(c, "json");
	c->quiet |= cli_flag(c, "quiet");
	const char *v;
	if ((v = cli_value(c, "root")))
		c->host_opts.root = v;
	if ((v = cli_value(c, "run")))
		c->host_opts.run = v;
	if ((v = cli_value(c, "config")))
		c->host_opts.conf = v;
}

int cli_parse(struct cli *c, int argc, char **argv, struct vps_err *err)
{
	c->args = calloc(argc + 1, sizeof(*c->args));
	if (!c->args)
		return -ENOMEM;
	for (int i = 0; i < argc; i++) {
		const char *a = argv[i];
		int r = 0;
		if (c->verb->stop_after && c->n_args == c->verb->stop_after &&
		    (a[0] != '-' || !a[1])) {
			c->command = argv + i;
			break;
		}
		if (str_eq(a, "--")) {
			c->command = argv + i + 1;
			break;
		}
		if (a[0] == '-' && a[1] == '-')
			r = parse_long(c, argc, argv, &i, err);
		else if (a[0] == '-' && a[1])
			r = parse_short(c, argc, argv, &i, err);
		else
			c->args[c->n_args++] = argv[i];
		if (r < 0)
			return r;
	}
	if (c->command && !c->verb->stop_after) { /* "--" only ends the options */
		for (; *c->command; c->command++)
			c->args[c->n_args++] = *c->command;
		c->command = NULL;
	}
	if (c->command && !*c->command)
		c->command = NULL;
	take_globals(c);
	return 0;
}

bool cli_flag(const struct cli *c, const char *name)
{
	for (size_t i = 0; i < c->n_given; i++)
		if (!c->given[i].spec && str_eq(c->given[i].name, name))
			return true;
	return false;
}

const char *cli_value(const struct cli *c, const char *name)
{
	for (size_t i = c->n_given; i-- > 0;)
		if (!c->given[i].spec && str_eq(c->given[i].name, name))
			return c->given[i].value;
	return NULL;
}

int cli_spec_settings(const struct cli *c, char ***ret)
{
	auto_strv v = NULL;
	for (size_t i = 0; i < c->n_given; i++) {
		if (!c->given[i].spec)
			continue;
		int r = strv_addf(&v, "%s=%s", c->given[i].name, c->given[i].value);
		if (r < 0)
			return r;
	}
	*ret = take_ptr(v);
	return 0;
}
