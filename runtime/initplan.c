// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/initplan.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "netns/netns.h"

#define STOP_SYSTEM_MS	90000 /* as systemd's own DefaultTimeoutStopSec */
#define STOP_COMMAND_MS 10000

void init_plan_done(struct init_plan *p)
{
	strv_free(p->argv);
	strv_free(p->env);
	free(p->user);
	free(p->cwd);
	memset(p, 0, sizeof(*p));
}

static int append(char ***to, char *const *from)
{
	int r = 0;

	for (; from && *from && r == 0; from++)
		r = strv_add(to, *from);
	return r;
}

/* Set K=V, instead of an earlier K. */
static int put_env(char ***env, const char *kv)
{
	size_t n = strcspn(kv, "=") + 1;

	for (char **p = *env; p && *p; p++) {
		if (strncmp(*p, kv, n) == 0)
			return str_set(p, kv);
	}
	return strv_add(env, kv);
}

/* systemd.io/CONTAINER_INTERFACE: any word, when set; the uuid becomes the machine id */
static int container_env(const struct vps_spec *s, struct init_plan *p)
{
	autofree char *uuid = str_fmt("container_uuid=%s", s->uuid);
	int r = uuid ? put_env(&p->env, "container=vps") : -ENOMEM;

	return r ?: put_env(&p->env, uuid);
}

static int make_env(const struct vps_spec *s, const struct img_info *image, struct init_plan *p)
{
	bool machine = s->isolation == ISOLATION_VM;
	int r = put_env(&p->env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");

	if (r == 0 && s->console == CONSOLE_PTY)
		r = put_env(&p->env, machine ? "TERM=vt220" : "TERM=xterm");
	if (r == 0 && !machine)
		r = container_env(s, p);
	for (char **e = image->env; e && *e && r == 0; e++)
		r = strchr(*e, '=') ? put_env(&p->env, *e) : 0;
	for (char **e = s->env; e && *e && r == 0; e++)
		r = put_env(&p->env, *e);
	return r;
}

static bool is_init_name(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	return str_eq(base, "init") || str_eq(base, "systemd");
}

static int make_argv(const struct vps_spec *s, const struct img_info *image,
		     const struct guest_facts *facts, struct init_plan *p)
{
	int r = 0;

	if (s->init) {
		p->system = is_init_name(s->init[0]);
		return append(&p->argv, s->init);
	}
	if (!s->command && facts->init != GUEST_INIT_NONE) {
		p->system = true;
		return strv_add(&p->argv, facts->sbin_init ? "/sbin/init" : "/lib/systemd/systemd");
	}
	/* As docker run has it: a command takes the place of the image's cmd, not of its
	 * entrypoint. */
	p->under_init = true;
	r = append(&p->argv, image->entrypoint);
	r = r ?: append(&p->argv, s->command ? s->command : image->cmd);
	if (r == 0 && !p->argv)
		r = strv_copy(&p->argv, (char *[]){NULL});
	return r;
}

static int stop_signal(const struct vps_spec *s, const struct img_info *image, const struct guest_facts *facts,
		       const struct init_plan *p)
{
	int sig;

	if (p->system) {
		switch (facts->init) {
		case GUEST_INIT_SYSTEMD: /* systemd(1): starts halt.target */
			/* of a machine: poweroff.target, for a halted one keeps its power */
			return SIGRTMIN + (s->isolation == ISOLATION_VM ? 4 : 3);
		case GUEST_INIT_BUSYBOX: /* poweroff */
			return SIGUSR2;
		case GUEST_INIT_OTHER: /* inittab(5): powerwait, powerfail; what LXC sends, too */
			return SIGPWR;
		case GUEST_INIT_NONE:
			break;
		}
	}
	/* the image's own word; untrusted, but only a number comes of it */
	sig = image->stop_signal ? spec_signal_parse(image->stop_signal) : 0;
	return sig > 0 ? sig : SIGTERM;
}

int init_plan_make(const struct vps_spec *s, const struct img_info *image,
		   const struct guest_facts *facts, struct init_plan *ret, struct vps_err *err)
{
	struct init_plan p = {0};
	int r = make_argv(s, image, facts, &p);

	r = r ?: make_env(s, image, &p);
	if (r == 0 && !p.system) {
		r = str_set(&p.user, s->user ? s->user : image->user);
		r = r ?: str_set(&p.cwd, s->workdir ? s->workdir : image->workdir);
	}
	if (r < 0) {
		init_plan_done(&p);
		return vps_err_sys(err, r, "command");
	}
	p.stop_signal = stop_signal(s, image, facts, &p);
	p.stop_timeout_ms = p.system ? STOP_SYSTEM_MS : STOP_COMMAND_MS;
	*ret = p;
	return 0;
}

/* ---- name servers ------------------------------------------------------------- */

static bool is_loopback(const struct net_addr *a)
{
	return a->family == AF_INET ? (ntohl(a->v4.s_addr) >> 24) == 127
				    : IN6_IS_ADDR_LOOPBACK(&a->v6);
}

static int resolv_line(char *line, char ***dns, char ***search)
{
	char *save, *word = strtok_r(line, " \t", &save);
	struct net_addr a;
	int r = 0;

	if (!word)
		return 0;
	if (str_eq(word, "nameserver")) {
		word = strtok_r(NULL, " \t", &save);
		if (word && !strchr(word, '/') && net_addr_parse(word, &a) == 0 && !is_loopback(&a))
			r = strv_add(dns, word);
	} else if (str_eq(word, "search") || str_eq(word, "domain")) {
		*search = strv_free(*search); /* the last line counts: resolv.conf(5) */
		while (r == 0 && (word = strtok_r(NULL, " \t", &save)))
			r = strv_add(search, word);
	}
	return r;
}

int init_plan_parse_resolv(const char *text, char ***dns, char ***search)
{
	autofree char *copy = strdup(text);
	char *rest = copy, *line;

	if (!copy)
		return -ENOMEM;
	while ((line = strsep(&rest, "\n"))) {
		int r = resolv_line(line, dns, search);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A host whose resolv.conf names its own stub (127.0.0.53) has the real ones in systemd's file. */
static int host_dns(char ***dns, char ***search)
{
	static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

	for (size_t i = 0; i < ARRAY_LEN(files) && !*dns; i++) {
		autofree char *text = NULL;
		if (fs_read(AT_FDCWD, files[i], 65536, &text, NULL) < 0)
			continue;
		int r = init_plan_parse_resolv(text, dns, search);
		if (r < 0)
			return r;
	}
	return 0;
}

int init_plan_dns(const struct vps_spec *s, char *const *conf_dns, char ***ret_dns,
		  char ***ret_search)
{
	auto_strv dns = NULL;
	auto_strv search = NULL;
	int r = 0;

	if (s->dns)
		r = strv_copy(&dns, s->dns);
	else if (conf_dns)
		r = strv_copy(&dns, conf_dns);
	else
		r = host_dns(&dns, &search);
	if (r == 0 && s->dns_search) {
		search = strv_free(search);
		r = strv_copy(&search, s->dns_search);
	}
	if (r < 0)
		return r;
	*ret_dns = take_ptr(dns);
	*ret_search = take_ptr(search);
	return 0;
}
