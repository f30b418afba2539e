/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What every verb needs: the host, names, many VPSes at once, errors to words and exit codes. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int cli_exit_code(int r)
{
	switch (-r) {
	case VPS_EUSAGE:       return EXIT_USAGE;
	case VPS_ERESOURCE:
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:	       return EXIT_RESOURCE;
	case VPS_EUNSUPPORTED: return EXIT_UNSUPPORTED;
	case VPS_EBADIMAGE:
	case VPS_EDIGEST:      return EXIT_BADIMAGE;
	case VPS_ENET:
	case VPS_EAUTH:	       return EXIT_NETWORK;
	case VPS_EEXEC:	       return EXIT_EXEC;
	case VPS_ELOCKED:      return EXIT_LOCKED;
	case VPS_ETIMEDOUT:
	case ETIMEDOUT:	       return EXIT_TIMEOUT;
	case VPS_ECONF:	       return EXIT_CONF;
	case VPS_EEXISTS:      return EXIT_EXISTS;
	case VPS_ENOIMAGE:     return EXIT_NOIMAGE;
	case VPS_ENOVPS:       return EXIT_NOVPS;
	case VPS_ESTATE:       return EXIT_STATE;
	case VPS_EINTERRUPTED: return EXIT_INTERRUPTED;
	case EINTR:	       return cli_interrupted ? EXIT_INTERRUPTED : EXIT_SYSTEM;
	default:	       return r < 0 ? EXIT_SYSTEM : EXIT_OK;
	}
}

void cli_print_escaped(FILE *out, const char *s)
{
	autofree char *e = str_escape(s);
	fputs(e ? e : "", out);
}

int cli_fail(const struct cli *c, int r, const struct vps_err *err)
{
	cli_progress_end();
	fflush(stdout);
	/* One write, so that the lines of parallel workers do not mix. */
	autofree char *text = str_escape(err && err->msg[0] ? err->msg : vps_code_str(r));
	autofree char *line = str_fmt("vps: %s\n", text ? text : "out of memory");
	fputs(line ? line : "vps: out of memory\n", stderr);
	return cli_exit_code(r);
}

int cli_exec_fail(const struct cli *c, int r, const struct vps_err *err)
{
	int code = cli_fail(c, r, err);
	if (r != -VPS_EEXEC)
		return code;
	return strstr(err->msg, "not found") || strstr(err->msg, "No such file") ? EXIT_NOT_FOUND
										 : EXIT_CANNOT_EXEC;
}

void cli_warn_caveats(struct cli *c, const struct vps_spec *s)
{
	auto_strv words = NULL;
	if (c->quiet || vps_caveats(c->host, s, &words) < 0)
		return;
	for (char **p = words; p && *p; p++) {
		autofree char *text = str_escape(*p);
		autofree char *line = str_fmt("vps: note: %s\n", text ? text : "");
		fputs(line ? line : "", stderr);
	}
}

int cli_host(struct cli *c, struct vps_err *err)
{
	return c->host ? 0 : vps_host_open(&c->host_opts, &c->host, err);
}

int cli_images(struct cli *c, struct img_store **ret, struct vps_err *err)
{
	int r = cli_host(c, err);
	return r < 0 ? r : vps_host_images(c->host, ret, err);
}

int cli_print_json(struct strbuf *sb)
{
	if (sb_ok(sb) < 0)
		return EXIT_RESOURCE;
	fwrite(sb->s, 1, sb->len, stdout);
	fputc('\n', stdout);
	return EXIT_OK;
}

/* --all: by boot order it does not matter here; by id. */
static int all_names(struct cli *c, unsigned mask, char ***ret, struct vps_err *err)
{
	struct vps_info *list = NULL;
	size_t n = 0;
	auto_strv names = NULL;
	int r = vps_list(c->host, &list, &n, err);
	for (size_t i = 0; r >= 0 && i < n; i++) {
		if (!(mask & 1u << list[i].status))
			continue;
		r = list[i].spec.name ? strv_add(&names, list[i].spec.name)
				      : strv_addf(&names, "%u", list[i].spec.id);
	}
	vps_list_free(list, n);
	if (r < 0)
		return r;
	*ret = take_ptr(names);
	return 0;
}

int cli_names(struct cli *c, unsigned all_mask, char ***ret, struct vps_err *err)
{
	int r = cli_host(c, err);
	if (r < 0)
		return r;
	if (cli_flag(c, "all")) {
		if (c->n_args)
			return vps_err_set(err, VPS_EUSAGE, "give names or --all, not both");
		return all_names(c, all_mask, ret, err);
	}
	if (!c->n_args)
		return vps_err_set(err, VPS_EUSAGE, "which VPS? Give a name or an id%s",
				   all_mask ? ", or --all" : "");
	return strv_copy(ret, c->args);
}

int cli_uuid_args(struct cli *c, struct vps_err *err)
{
	int r = cli_host(c, err);
	for (char **a = c->args; r >= 0 && *a; a++) {
		auto_done(vps_info_done) struct vps_info i = {0};
		struct vps_err why = {0};
		if (strlen(*a) < 4 || strspn(*a, "0123456789abcdef-") != strlen(*a))
			continue;
		int one = vps_get(c->host, *a, &i, &why);
		if (one == -VPS_EUSAGE) { /* of several */
			*err = why;
			return one;
		}
		if (one < 0 || !str_starts(i.spec.uuid, *a) || str_eq(*a, i.spec.name))
			continue;
		r = strv_addf(&c->own, "%u", i.spec.id);
		if (r >= 0)
			*a = c->own[strv_len(c->own) - 1];
	}
	return r;
}

typedef int each_fn(struct cli *c, const char *name, struct vps_err *err);

static int one(struct cli *c, const char *name, each_fn *fn)
{
	struct vps_err err = {0};
	int r = fn(c, name, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (!c->quiet && !c->json) {
		autofree char *e = str_escape(name);
		autofree char *line = str_fmt("%s\n", e ? e : "");
		fputs(line ? line : "", stdout);
		fflush(stdout);
	}
	return EXIT_OK;
}

static unsigned parallel(const struct cli *c)
{
	uint64_t n = 0;
	const char *v = cli_value(c, "parallel");
	if (v && parse_u64(v, 256, &n) == 0 && n)
		return n;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	return cpus < 1 ? 2 : cpus > 8 ? 16 : 2 * cpus;
}

struct spread {
	pid_t *pids; /* 0: ended */
	size_t n;
	unsigned running;
	int code;
	bool told;
};

/* They have groups of their own, or Ctrl-C would come twice. */
static void pass_signal(struct spread *s)
{
	for (size_t i = 0; cli_interrupted && !s->told && i < s->n; i++)
		if (s->pids[i])
			kill(s->pids[i], cli_interrupted);
	s->told = cli_interrupted;
}

static void woken(int sig) { (void)sig; }

/* Signals come nowhere but in sigsuspend(): none between the look and the wait. */
static pid_t wait_any(struct spread *s, int *status)
{
	struct sigaction wake = {.sa_handler = woken}, was;
	sigset_t ours, old;
	pid_t pid;
	int e;

	sigemptyset(&ours);
	sigaddset(&ours, SIGINT);
	sigaddset(&ours, SIGTERM);
	sigaddset(&ours, SIGHUP);
	sigaddset(&ours, SIGCHLD);
	sigaction(SIGCHLD, &wake, &was);
	sigprocmask(SIG_BLOCK, &ours, &old);
	for (;;) {
		pass_signal(s);
		pid = waitpid(-1, status, WNOHANG);
		if (pid)
			break;
		sigsuspend(&old);
	}
	e = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	sigaction(SIGCHLD, &was, NULL);
	errno = e;
	return pid;
}

static int reap_one(struct spread *s)
{
	int status;
	pid_t pid = wait_any(s, &status);

	if (pid < 0)
		return -errno;
	for (size_t i = 0; i < s->n; i++)
		if (s->pids[i] == pid)
			s->pids[i] = 0;
	int c = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_SYSTEM;
	if (c && !s->code)
		s->code = c;
	s->running--;
	return 0;
}

int cli_spread(struct cli *c, size_t n, unsigned most, int (*fn)(struct cli *c, size_t i, void *arg), void *arg)
{
	autofree pid_t *pids = calloc(n ? n : 1, sizeof(*pids));
	struct spread s = {.pids = pids, .n = n};
	if (!pids)
		return EXIT_RESOURCE;
	fflush(stdout);
	for (size_t i = 0; i < n; i++) {
		while (s.running == most && reap_one(&s) == 0)
			;
		if (cli_interrupted)
			break;
		pid_t parent = getpid();
		pids[i] = fork();
		if (pids[i] == 0) {
			setpgid(0, 0);
			prctl(PR_SET_PDEATHSIG, SIGINT); /* a second Ctrl-C ends us at once, and they are not to go on unseen */
			if (getppid() != parent)
				_exit(EXIT_INTERRUPTED);
			setvbuf(stderr, NULL, _IOLBF, 0);
			int r = fn(c, i, arg);
			fflush(NULL);
			_exit(r);
		}
		if (pids[i] < 0) { /* no process to be had: do it here */
			pids[i] = 0;
			int r = fn(c, i, arg);
			s.code = s.code ? s.code : r;
		} else {
			s.running++;
		}
	}
	while (s.running && reap_one(&s) == 0)
		;
	return cli_interrupted && !s.code ? EXIT_INTERRUPTED : s.code;
}

struct each {
	char *const *names;
	each_fn *fn;
};

static int each_one(struct cli *c, size_t i, void *arg)
{
	struct each *e = arg;
	return one(c, e->names[i], e->fn);
}

int cli_each(struct cli *c, char *const *names, each_fn *fn)
{
	size_t n = strv_len(names);
	if (n == 1)
		return one(c, names[0], fn);
	return cli_spread(c, n, parallel(c), each_one, &(struct each){.names = names, .fn = fn});
}

int cli_timeout(const struct cli *c, int dflt, int *ret, struct vps_err *err)
{
	const char *v = cli_value(c, "timeout");
	uint64_t ms = 0;
	*ret = dflt;
	if (!v)
		return 0;
	if (parse_duration_ms(v, &ms) < 0 || ms > INT32_MAX)
		return vps_err_set(err, VPS_EUSAGE, "--timeout '%s': say it as 30s, 5m or 1h", v);
	*ret = (int)ms;
	return 0;
}
