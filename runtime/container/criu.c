/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRIU's RPC. The only user of protobuf-c. */
#include "runtime/container/criu.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sys.h"
#include "runtime/container/criu.pb-c.h"
#include "runtime/vps.h"

/* Kinds of requests and answers. */
enum { REQ_DUMP = 1, REQ_RESTORE = 2, REQ_NOTIFY = 6, REQ_VERSION = 10, REQ_PRE_DUMP = 13 };

#define CG_MODE_IGNORE	  0
#define NETWORK_LOCK_SKIP 3
#define GHOST_LIMIT	  (64u << 20) /* bytes of a deleted file that is still open */
#define DUMP_TIMEOUT_S	  20	      /* to stop all its processes */
#define MESSAGE_MAX	  65536
#define CHECK_MS	  20000
#define STATS_HEAD	  12u /* two magic numbers and the length of the message */

void criu_done(struct criu *c)
{
	if (!c)
		return;
	free(c->path);
	*c = (struct criu){0};
}

char *criu_version_str(unsigned v, char buf[CRIU_VERSION_STR])
{
	unsigned sub = v % 100;

	if (sub)
		snprintf(buf, CRIU_VERSION_STR, "%u.%u.%u", v / 10000, v / 100 % 100, sub);
	else
		snprintf(buf, CRIU_VERSION_STR, "%u.%u", v / 10000, v / 100 % 100);
	return buf;
}

/* ---- messages ------------------------------------------------------------------ */

static int pack(const CriuReq *req, struct strbuf *ret)
{
	size_t n = criu_req__get_packed_size(req);
	autofree uint8_t *buf = malloc(n ? n : 1);

	if (!buf)
		return -ENOMEM;
	criu_req__pack(req, buf);
	sb_addn(ret, buf, n);
	return sb_ok(ret);
}

static void common_opts(const struct criu_request *r, CriuOpts *o)
{
	o->images_dir_fd = r->dir;
	o->has_work_dir_fd = true;
	o->work_dir_fd = r->work;
	o->has_log_level = true;
	o->log_level = 4;
	o->log_file = (char *)(uintptr_t)r->log;
	o->has_notify_scripts = o->notify_scripts = true;
	o->has_tcp_established = o->tcp_established = true;
	o->has_file_locks = o->file_locks = true;
	o->has_ext_unix_sk = o->ext_unix_sk = true;
	o->has_link_remap = o->link_remap = true;
	o->has_force_irmap = o->force_irmap = true;
	o->has_tcp_skip_in_flight = o->tcp_skip_in_flight = true;
	o->has_ghost_limit = true;
	o->ghost_limit = GHOST_LIMIT;
	/* Groups, the network and who may send what are the life cycle's. */
	o->has_manage_cgroups_mode = true;
	o->manage_cgroups_mode = CG_MODE_IGNORE;
	o->has_empty_ns = true;
	o->empty_ns = CLONE_NEWNET;
	/* Older ones know no "skip", and end at a word they do not know. They lock inside, too, which does no harm. */
	o->has_network_lock = r->version >= CRIU_VERSION(3, 18, 0);
	o->network_lock = NETWORK_LOCK_SKIP;
	o->n_external = strv_len(r->external);
	o->external = r->external;
	o->n_irmap_scan_paths = strv_len(r->scan);
	o->irmap_scan_paths = r->scan;
	o->has_unprivileged = o->unprivileged = r->unprivileged; /* 3.18 */
}

int criu_encode(const struct criu_request *r, struct strbuf *ret)
{
	CriuReq req = CRIU_REQ__INIT;
	CriuOpts opts = CRIU_OPTS__INIT;
	autofree CriuFd *fds = calloc(r->n_fds + 1, sizeof(*fds));
	autofree CriuFd **list = calloc(r->n_fds + 1, sizeof(*list));

	if (!fds || !list)
		return -ENOMEM;
	common_opts(r, &opts);
	if (r->restore) {
		opts.root = (char *)(uintptr_t)r->root;
	} else {
		opts.has_pid = true;
		opts.pid = r->pid;
		opts.freeze_cgroup = (char *)(uintptr_t)r->freeze;
		opts.has_timeout = true;
		opts.timeout = DUMP_TIMEOUT_S;
		opts.has_track_mem = opts.track_mem = r->predump || r->parent;
		opts.parent_img = (char *)(uintptr_t)r->parent;
	}
	for (size_t i = 0; i < r->n_fds; i++) {
		criu_fd__init(&fds[i]);
		fds[i].key = r->fds[i].key;
		fds[i].fd = r->fds[i].fd;
		list[i] = &fds[i];
	}
	opts.n_inherit_fd = r->n_fds;
	opts.inherit_fd = list;
	req.type = r->restore ? REQ_RESTORE : r->predump ? REQ_PRE_DUMP : REQ_DUMP;
	req.opts = &opts;
	return pack(&req, ret);
}

static void take_words(struct criu_event *e, const CriuResp *m)
{
	autofree char *safe = m->cr_errmsg ? str_escape(m->cr_errmsg) : NULL;

	snprintf(e->words, sizeof(e->words), "%s", safe ? safe : "");
}

int criu_decode(const void *msg, size_t len, struct criu_event *ret, unsigned *ret_version)
{
	CriuResp *m = criu_resp__unpack(NULL, len, msg);
	struct criu_event e = {0};

	if (!m)
		return -EBADMSG;
	e.success = m->success;
	e.last = m->type != REQ_NOTIFY;
	if (m->notify) {
		snprintf(e.script, sizeof(e.script), "%s", m->notify->script ? m->notify->script : "");
		e.pid = m->notify->has_pid ? m->notify->pid : 0;
	}
	if (m->restore)
		e.pid = m->restore->pid;
	e.cr_errno = m->has_cr_errno ? m->cr_errno : 0;
	take_words(&e, m);
	if (ret_version && m->version && m->version->major_number >= 0 && m->version->minor_number >= 0)
		*ret_version = CRIU_VERSION((unsigned)m->version->major_number,
					    (unsigned)m->version->minor_number,
					    m->version->has_sublevel ? (unsigned)m->version->sublevel : 0);
	criu_resp__free_unpacked(m, NULL);
	*ret = e;
	return 0;
}

/* ---- the program ----------------------------------------------------------------- */

static int keep_open(const struct criu_fd *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fcntl(fds[i].fd, F_SETFD, 0) < 0)
			return -errno;
	return 0;
}

static _Noreturn void become(const struct criu *c, int sock, int (*child)(void *arg), void *arg,
			     const struct criu_fd *fds, size_t n_fds)
{
	char word[12], *argv[] = {c->path, (char *)(uintptr_t)"swrk", word, NULL};
	char *env[] = {(char *)(uintptr_t)"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;
	int null, r;

	/* Ctrl-C is for the command: what criu has begun it must be able to undo. */
	setsid();
	umask(077);
	for (int sig = 1; sig < 32; sig++)
		sigaction(sig, &dfl, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	r = child ? child(arg) : 0;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3 && null >= 0; i++)
		dup2(null, i);
	if (r >= 0)
		r = sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	if (r >= 0)
		r = keep_open(fds, n_fds);
	if (r >= 0 && fcntl(sock, F_SETFD, 0) == 0) {
		snprintf(word, sizeof(word), "%d", sock);
		execve(c->path, argv, env);
	}
	_exit(127);
}

int criu_start(const struct criu *c, struct criu_job *j, int (*child)(void *arg), void *arg,
	       const struct criu_fd *fds, size_t n_fds, struct vps_err *err)
{
	int pair[2], big = MESSAGE_MAX * 4;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return vps_err_sys(err, -errno, "socketpair");
	setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &big, sizeof(big));
	pid = fork();
	if (pid == 0)
		become(c, pair[1], child, arg, fds, n_fds);
	close(pair[1]);
	if (pid < 0) {
		int r = -errno;

		close(pair[0]);
		return vps_err_sys(err, r, "fork");
	}
	*j = (struct criu_job){.pid = pid, .sock = pair[0]};
	return 0;
}

static int say(struct criu_job *j, const struct strbuf *sb)
{
	ssize_t n = send(j->sock, sb->s, sb->len, MSG_NOSIGNAL);

	return n < 0 ? -errno : 0;
}

static int say_plain(struct criu_job *j, unsigned type, bool notified, bool ok)
{
	auto_strbuf sb = STRBUF_INIT;
	CriuReq req = CRIU_REQ__INIT;
	int r;

	req.type = type;
	req.has_notify_success = notified;
	req.notify_success = ok;
	r = pack(&req, &sb);
	return r ?: say(j, &sb);
}

int criu_ask(struct criu_job *j, const struct criu_request *q, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	int r = criu_encode(q, &sb);

	r = r ?: say(j, &sb);
	return r < 0 ? vps_err_sys(err, r, "talk to criu") : 0;
}

int criu_answer(struct criu_job *j, bool ok)
{
	return say_plain(j, REQ_NOTIFY, true, ok);
}

static int hear(struct criu_job *j, struct criu_event *ret, unsigned *ret_version, struct vps_err *err)
{
	autofree char *buf = malloc(MESSAGE_MAX);
	ssize_t n;
	int r;

	if (!buf)
		return vps_err_sys(err, -ENOMEM, "talk to criu");
	do {
		n = recv(j->sock, buf, MESSAGE_MAX, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != ECONNRESET)
		return vps_err_sys(err, -errno, "talk to criu");
	if (n <= 0)
		return vps_err_set(err, ECHILD, "criu ended without an answer");
	r = criu_decode(buf, (size_t)n, ret, ret_version);
	return r < 0 ? vps_err_sys(err, r, "criu's answer") : 0;
}

int criu_next(struct criu_job *j, struct criu_event *ret, struct vps_err *err)
{
	return hear(j, ret, NULL, err);
}

bool criu_says(struct criu_job *j, int ms)
{
	struct pollfd p = {.fd = j->sock, .events = POLLIN};

	return poll(&p, 1, ms) != 0;
}

void criu_end(struct criu_job *j)
{
	close_fd(&j->sock);
	while (j->pid > 0 && waitpid(j->pid, NULL, 0) < 0 && errno == EINTR)
		;
	j->pid = 0;
}

/* ---- which, and can it ------------------------------------------------------------- */

static int ask_plain(const struct criu *c, unsigned type, struct criu_event *e, unsigned *version, struct vps_err *err)
{
	struct criu_job j = CRIU_JOB_INIT;
	int r = criu_start(c, &j, NULL, NULL, NULL, 0, err);

	if (r < 0)
		return r;
	r = say_plain(&j, type, false, false);
	if (r < 0)
		vps_err_sys(err, r, "talk to criu");
	else
		r = hear(&j, e, version, err);
	criu_end(&j);
	return r;
}

unsigned criu_version_wanted(const char *release, const char **ret_why)
{
	unsigned a = 0, b = 0;

	*ret_why = "";
	if (sscanf(release, "%u.%u", &a, &b) != 2)
		return CRIU_VERSION(3, 17, 0);
	if (a > 6 || (a == 6 && b >= 16)) {
		*ret_why = "Linux 6.16 took socket options away that older ones ask for";
		return CRIU_VERSION(4, 2, 0);
	}
	if (a == 6 && b >= 13) {
		*ret_why = "Linux 6.13 changed the vDSO's layout";
		return CRIU_VERSION(4, 1, 0);
	}
	return CRIU_VERSION(3, 17, 0);
}

static int ask_version(struct criu *c, struct vps_err *err)
{
	char have[CRIU_VERSION_STR], want[CRIU_VERSION_STR];
	struct criu_event e;
	struct vps_err ignored = {0};
	struct utsname u;
	const char *why;
	unsigned least;
	int r = ask_plain(c, REQ_VERSION, &e, &c->version, &ignored);

	if (r < 0 || !c->version)
		return vps_err_set(err, VPS_EUNSUPPORTED, "'%s' does not answer as CRIU does", c->path);
	least = uname(&u) == 0 ? criu_version_wanted(u.release, &why) : 0;
	if (c->version < least)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "%s is CRIU %s; Linux %s wants %s at least%s%s: install a newer one beside it and "
				   "name it by \"criu = PATH\" in vps.conf",
				   c->path, criu_version_str(c->version, have), u.release,
				   criu_version_str(least, want), *why ? " - " : "", why);
	return 0;
}

int criu_find(const struct vps_conf *conf, struct criu *ret, struct vps_err *err)
{
	auto_done(criu_done) struct criu c = {0};
	const char *env = getenv("VPS_CRIU"), *asked = NULL;
	int r;

	if (env && *env)
		asked = env;
	else if (conf && conf->criu && *conf->criu)
		asked = conf->criu;
	else if (*CRIU_PROGRAM)
		asked = CRIU_PROGRAM;
	c.path = proc_find(asked ? asked : "criu");
	if (!c.path || access(c.path, X_OK) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   asked ? "there is no CRIU at '%s', as vps.conf, $VPS_CRIU or the build say"
					 : "a running container can only be written down by CRIU, which is not "
					   "installed%s: apt-get install criu", asked ? asked : "");
	r = ask_version(&c, err);
	if (r < 0)
		return r;
	*ret = c;
	c = (struct criu){0};
	return 0;
}

int criu_check(const struct criu *c, struct vps_err *err)
{
	char v[CRIU_VERSION_STR], *argv[] = {c->path, (char *)(uintptr_t)"check", NULL};
	struct proc_opts o = PROC_OPTS_INIT;
	struct vps_err why = {0};

	o.timeout_ms = CHECK_MS;
	if (proc_run_ok(argv, &o, &why) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "CRIU %s cannot work on this kernel: %s",
				   criu_version_str(c->version, v), why.msg);
	return 0;
}

/* ---- its notes ---------------------------------------------------------------------- */

int criu_stats_decode(const void *msg, size_t len, uint64_t *ret_frozen_us, uint64_t *ret_bytes)
{
	const unsigned char *p = msg;
	CriuStats *m = NULL;
	size_t n;

	if (len >= STATS_HEAD) {
		n = (size_t)(p[8] | p[9] << 8 | p[10] << 16) | (size_t)p[11] << 24;
		if (n <= len - STATS_HEAD)
			m = criu_stats__unpack(NULL, n, p + STATS_HEAD);
	}
	if (!m || !m->dump) {
		criu_stats__free_unpacked(m, NULL);
		return -EBADMSG;
	}
	*ret_frozen_us = m->dump->frozen_time;
	*ret_bytes = m->dump->pages_written * 4096;
	criu_stats__free_unpacked(m, NULL);
	return 0;
}

int criu_stats(int work, uint64_t *ret_frozen_us, uint64_t *ret_bytes)
{
	autofree char *text = NULL;
	size_t len;
	int r = fs_read(work, "stats-dump", 65536, &text, &len);

	return r ?: criu_stats_decode(text, len, ret_frozen_us, ret_bytes);
}

/* ---- its log -------------------------------------------------------------------------- */

/* "(00.037497) Error (criu/namespaces.c:460): words" to words. Those that say nothing are left out. */
static const char *complaint(const char *line, size_t *ret_len)
{
	/* what it can do without, and what only says that there was something */
	static const char *const idle[] = {"rlimit: ", "tun: ", "cg: cgroupd", "Dumping FAILED", "Restoring FAILED"};
	const char *p = strstr(line, "Error ("), *end = strchr(line, '\n');

	if (!end)
		end = line + strlen(line);
	if (!p || p > end)
		return NULL;
	p = strstr(p, "): ");
	if (!p || p > end)
		return NULL;
	p += 3;
	*ret_len = (size_t)(end - p);
	for (size_t i = 0; i < ARRAY_LEN(idle); i++)
		if (str_starts(p, idle[i]))
			return NULL;
	return p;
}

char *criu_log_words(int dir, const char *log)
{
	autofree char *text = NULL;
	auto_strbuf sb = STRBUF_INIT;
	unsigned n = 0;

	if (fs_read(dir, log, 64u << 20, &text, NULL) < 0)
		return NULL;
	for (const char *line = text; line && *line && n < 3;) {
		size_t len;
		const char *words = complaint(line, &len), *next = strchr(line, '\n');

		if (words) {
			sb_add(&sb, n++ ? "; " : "");
			sb_add_escaped(&sb, words, len < 160 ? len : 160);
		}
		line = next ? next + 1 : NULL;
	}
	return n && sb_ok(&sb) == 0 ? sb_take(&sb) : NULL;
}
