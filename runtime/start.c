// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Start. S is the command, M its child that launches init and becomes the monitor, B is init.
 *
 *   S  looks at everything: image, layers, disk, limits, plans. Nothing is made yet.
 *   S  takes monitor.lock (M inherits it), writes state.json: starting
 *   S  makes the cgroup, writes the limits
 *   S  forks M;            M  launches B, gated; tells its identity, hands over the network
 * namespace S  attaches the network, writes state.json: running S  says go;            M  becomes
 * vps-monitor, which opens the gate and reports
 *
 * A kill, by who and when:
 *   S before go    M reads end-of-file and exits; the gate shuts with it and B gives up.
 * monitor.lock is free when both are gone. state.json is there: the next command's reconcile tears
 * down. S after go     the VPS runs. M before exec  B gives up, S reads end-of-file and unwinds. B
 * M or the monitor notices; before go S unwinds, after it the monitor ends the run. All unwinding
 * is teardown(), which works from any half.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/guestconf.h"
#include "runtime/initplan.h"
#include "runtime/inside.h"
#include "runtime/internal.h"
#include "runtime/lxcfs.h"
#include "runtime/migrate/record.h"
#include "runtime/migrate/suspend.h"
#include "runtime/monitor.h"

#define LAUNCH_MS 120000 /* a loop device's journal may have to be replayed first */
#define READY_MS  180000 /* a machine boots a kernel first */
#define LOCK_FILE "monitor.lock"

/* Everything that a start needs, gathered before anything is made. */
struct start {
	struct vps_locked *l;
	const struct vps_start_opts *opts;
	struct start_more more;
	const struct vps_driver *driver;
	struct cg_host *cgh;
	struct net_host *neth;
	struct stopped_root root;
	struct guest_facts facts;
	struct init_plan init;
	char **dns, **dns_search;
	struct guest_file *files;
	size_t n_files;
	struct cg_limits limits;
	struct cg_device *devices;
	size_t n_devices;
	struct net_plan net;
	int lxcfs;
	int checkpoint; /* to go on from, or -1 */
	uint64_t ran;	/* seconds it had been up then */
	bool first_boot;
	/* made */
	int run_dir, mlock;
	struct cg *cg;
	struct run_state state;
};

static void start_done(struct start *s)
{
	root_done(&s->root);
	close_fd(&s->lxcfs);
	close_fd(&s->checkpoint);
	close_fd(&s->run_dir);
	close_fd(&s->mlock);
	init_plan_done(&s->init);
	strv_free(s->dns);
	strv_free(s->dns_search);
	guest_files_free(s->files, s->n_files);
	cg_limits_done(&s->limits);
	free(s->devices);
	net_plan_done(&s->net);
	cg_close(s->cg);
}

/* ---- looking ------------------------------------------------------------------- */

/* A machine's disk is looked at as long as no guest kernel has written it (I5); after that the image alone
 * tells what there is. */
static int open_root(struct start *s, struct vps_err *err)
{
	int r;

	if (!s->driver->machine)
		return root_open(s->l, &s->root, err);
	r = root_open_image(s->l, &s->root, err);
	if (r < 0 || s->first_boot || img_disk_is_guests(s->l->dir))
		return r;
	root_done(&s->root);
	return root_open(s->l, &s->root, err);
}

/* What is in the root decides what PID 1 is. The disk's part is the tenant's: only names are looked
 * at. */
static int probe_root(struct start *s, struct vps_err *err)
{
	const struct stopped_root *root = &s->root;
	autofree int *roots = calloc(root->n_layers + 1, sizeof(*roots));
	autoclose int upper = -1;
	size_t n = root->n_layers;
	int r;

	if (!roots)
		return vps_err_sys(err, -ENOMEM, "root");
	memcpy(roots, root->layers, n * sizeof(*roots));
	if (root->disk >= 0) {
		upper = openat(root->disk, "upper", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (upper < 0)
			return vps_err_sys(err, -errno, "disk of '%s'", s->l->spec.name);
		roots[n++] = upper;
	}
	r = guestconf_probe(roots, n, &s->facts);
	return r < 0 ? vps_err_sys(err, r, "looking into the root of '%s'", s->l->spec.name) : 0;
}

static int plan_files(struct start *s, struct vps_err *err)
{
	const struct vps_spec *spec = &s->l->spec;
	struct guest_input in = {.spec = spec, .addrs = spec->addrs, .first_boot = s->first_boot,
				 .copied = fs_exists(s->l->dir, COPIED_FILE)};
	int r = init_plan_dns(spec, s->l->h->conf.dns, &s->dns, &s->dns_search);

	if (r < 0)
		return vps_err_sys(err, r, "name servers");
	in.dns = s->dns;
	in.dns_search = s->dns_search;
	in.system = s->init.system;
	return guestconf_plan(&in, &s->facts, &s->files, &s->n_files, err);
}

static int plan_all(struct start *s, struct vps_err *err)
{
	const struct vps_spec *spec = &s->l->spec;
	int r = plan_limits(spec, online_cpus(), &s->limits, err);

	r = r ?: plan_devices(spec, &s->devices, &s->n_devices, err);
	r = r ?: plan_net(spec, &s->net, err);
	r = r ?: host_cgroups(s->l->h, &s->cgh, err);
	r = r ?: cg_limits_check(s->cgh, &s->limits, err);
	r = r ?: host_net(s->l->h, &s->neth, err);
	r = r ?: net_check_plan(s->neth, &s->net, err);
	if (r == 0 && *s->net.tap) /* it is told before the link is there */
		s->net.mtu = net_mtu(s->neth, &s->net);
	return r;
}

static int prepare(struct start *s, struct vps_err *err)
{
	struct vps_host *h = s->l->h;
	const struct vps_spec *spec = &s->l->spec;
	int r;

	s->driver = driver_of(spec);
	s->first_boot = !fs_exists(s->l->dir, FIRST_BOOT_DONE);
	r = s->driver->check(spec, &h->conf, err);
	r = r ?: plan_all(s, err);
	r = r ?: open_root(s, err);
	r = r ?: probe_root(s, err);
	r = r ?: init_plan_make(spec, &s->root.image, &s->facts, &s->init, err);
	r = r ?: plan_files(s, err);
	if (r < 0 || s->driver->machine)
		return r;
	/* Own views of /proc are a comfort: a VPS starts without them, too. */
	s->lxcfs = lxcfs_ensure(h->run_fd, h->conf.run, h->conf.lxcfs, s->cgh, NULL);
	return 0;
}

/* ---- making ---------------------------------------------------------------------- */

static int mark_starting(struct start *s, struct vps_err *err)
{
	struct vps_locked *l = s->l;

	cancel_backoff(l);
	s->run_dir = store_make_run_dir(l->h, l->id);
	if (s->run_dir < 0)
		return vps_err_sys(err, s->run_dir, "run directory of '%s'", l->spec.name);
	s->mlock = lock_take(s->run_dir, LOCK_FILE, true, 10000);
	if (s->mlock == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ELOCKED, "the last run of '%s' is not over yet",
				   l->spec.name);
	if (s->mlock < 0)
		return vps_err_sys(err, s->mlock, "monitor lock of '%s'", l->spec.name);
	unlinkat(s->run_dir, "monitor", 0);
	s->state = (struct run_state){
		.phase = RUN_STARTING,
		.started = (uint64_t)time(NULL) - s->ran,
		.stop_signal = s->init.stop_signal,
		.stop_timeout_ms = s->init.stop_timeout_ms,
	};
	strcpy(s->state.name, l->spec.name);
	return run_state_write(s->run_dir, &s->state, err);
}

/* A restorer works in the VPS's own group, so that what it fills in is counted there: it needs room beside what the VPS
 * had. */
#define RESTORER_MEMORY (64u << 20)
#define RESTORER_PIDS	64

static void add_room(uint64_t *v, uint64_t more)
{
	if (*v != CG_UNSET && *v != CG_MAX)
		*v += more;
}

static int apply_limits(struct start *s, bool restorer, struct vps_err *err)
{
	struct cg_limits l = s->limits;

	if (restorer) {
		add_room(&l.memory_max, RESTORER_MEMORY);
		add_room(&l.memory_high, RESTORER_MEMORY);
		add_room(&l.pids_max, RESTORER_PIDS);
	}
	return cg_limits_apply(s->cg, &l, err);
}

static int make_cgroup(struct start *s, struct vps_err *err)
{
	char name[ID_STR];
	int r = cg_create(s->cgh, id_str(s->l->id, name), s->l->spec.id_base, &s->cg, err);

	r = r ?: apply_limits(s, s->checkpoint >= 0 && !s->driver->machine, err);
	return r ?: cg_devices_set(s->cg, s->devices, s->n_devices, err);
}

/* ---- M ----------------------------------------------------------------------------- */

/* M's first word, with the network namespace's fd; and, in case of trouble, each later one. */
struct said {
	struct vps_err err; /* in front: the monitor's own report is no more than this */
	struct proc_ident init;
	bool network; /* not launched yet: it waits for the network to stand */
};

static void __attribute__((noreturn)) give_up(int sock, int r, struct vps_err *err)
{
	if (!err->code)
		vps_err_sys(err, r, "launch");
	(void)!send(sock, err, sizeof(*err), MSG_NOSIGNAL);
	_exit(1);
}

static void become_monitor(struct start *s, int sock, const struct vps_launched *launched)
{
	const struct vps_start_opts *o = s->opts;
	struct monitor_args a;
	struct vps_err err = {0};

	monitor_args_of(s->l, s->run_dir, &s->state, &a);
	a.init = launched->init;
	a.pidfd = launched->pidfd;
	a.console = launched->console;
	memcpy(a.pipes, launched->pipes, sizeof(a.pipes));
	a.notify = launched->notify;
	a.gate = launched->gate;
	a.oom = cg_oom_fd(s->cg);
	a.oom_stat = cg_oom_stat_fd(s->cg);
	if (a.oom < 0 || a.oom_stat < 0) { /* no memory controller: nobody is killed by it */
		close_fd(&a.oom);
		close_fd(&a.oom_stat);
	}
	a.lock = s->mlock;
	a.report = sock;
	a.restarts = s->more.restarts;
	a.failures = s->more.failures;
	a.hold_for_attach = o && o->hold_for_attach;
	a.lxcfs = s->lxcfs >= 0;
	a.ready = s->checkpoint >= 0;
	give_up(sock, monitor_exec(&a, &err), &err);
}

/* In M: of a checkpoint, connections come after addresses. */
static int ask_network(void *arg, const struct proc_ident *init, int netns, struct vps_err *err)
{
	int sock = *(int *)arg;
	struct said said = {.init = *init, .network = true};
	char done;

	if (sys_send_fds(sock, &said, sizeof(said), &netns, 1) < 0 || recv(sock, &done, 1, 0) != 1)
		_exit(1); /* S is gone, or gives up */
	return 0;
}

/* S was killed. Had it said already that the VPS runs? Then it does: with us would go its console, and it could never be
 * suspended again. */
static bool goes_on_alone(struct start *s)
{
	struct run_state now;

	if (s->checkpoint < 0 || run_state_read(s->run_dir, &now) < 0 || now.phase != RUN_RUNNING)
		return false;
	s->state = now;
	return !suspended_is(s->l) || suspended_use(s->l, NULL) == 0;
}

static void __attribute__((noreturn)) launcher(struct start *s, int sock)
{
	struct vps_locked *l = s->l;
	struct said said = {0};
	struct vps_err err = {0};
	struct vps_launched launched = {
		.pidfd = -1,
		.gate = -1,
		.netns = -1,
		.console = -1,
		.pipes = {-1, -1, -1},
		.notify = -1,
		.rootfs = -1,
	};
	struct vps_run run = {
		.spec = &l->spec,
		.conf = &l->h->conf,
		.layers = s->root.layers,
		.n_layers = s->root.n_layers,
		.disk_mount = s->root.disk,
		.image = s->root.erofs,
		.disk_image = s->root.disk_image,
		.net = &s->net,
		.argv = s->init.argv,
		.env = s->init.env,
		.user = s->init.user,
		.cwd = s->init.cwd,
		.under_init = s->init.under_init,
		.system = s->init.system,
		.cg = s->cg,
		.lxcfs_root = s->lxcfs,
		.instance_dir = l->dir,
		.run_dir = s->run_dir,
		.hostname = l->spec.hostname ? l->spec.hostname : l->spec.name,
		.dns = s->dns,
		.dns_search = s->dns_search,
		.addrs = l->spec.addrs,
		.files = s->files,
		.n_files = s->n_files,
		.first_boot = s->first_boot,
		.checkpoint = s->checkpoint,
		.network = ask_network,
		.network_arg = &sock,
	};
	char go;
	int r;

	setsid();
	close_fd(&l->lock); /* it is S's alone: a fork's copy would keep it when S is killed */
	r = s->driver->launch(&run, &launched, &err);
	if (r < 0)
		give_up(sock, r, &err);
	said.init = launched.init;
	if (sys_send_fds(sock, &said, sizeof(said), &launched.netns, 1) < 0)
		_exit(1);
	close_fd(&launched.netns);
	if (recv(sock, &go, 1, 0) != 1 && !goes_on_alone(s))
		_exit(1); /* S is gone; with us the gate */
	become_monitor(s, sock, &launched);
	_exit(1);
}

/* ---- S ------------------------------------------------------------------------------ */

/* Next message of M or of the monitor that it became. */
static int hear(int sock, struct said *said, int *ret_netns, struct vps_err *err)
{
	struct timeval tv = {.tv_sec = LAUNCH_MS / 1000};
	int fds[1];
	size_t n_fds = ret_netns ? 1 : 0;
	ssize_t n;

	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	memset(said, 0, sizeof(*said));
	n = sys_recv_fds(sock, said, sizeof(*said), fds, &n_fds);
	if (n == -EAGAIN || n == -EWOULDBLOCK)
		return vps_err_set(err, VPS_ETIMEDOUT, "the launcher does not answer");
	if (n < 0)
		return vps_err_sys(err, (int)n, "launcher");
	if ((size_t)n < sizeof(said->err))
		return vps_err_set(err, ECHILD, "the launcher ended without a word");
	if (said->err.code) {
		said->err.msg[sizeof(said->err.msg) - 1] = '\0';
		return vps_err_set(err, said->err.code, "%s", said->err.msg);
	}
	if (!ret_netns)
		return 0;
	if ((size_t)n != sizeof(*said) || n_fds != 1)
		return vps_err_set(err, EPROTO, "the launcher sent no network namespace");
	*ret_netns = fds[0];
	return 0;
}

/* Held as long as connections are not there again: the kernel would answer for them that there are none. */
static int attach(struct start *s, int netns, bool held, struct vps_err *err)
{
	int r = held ? net_hold(s->neth, s->l->id, &s->net, true, err) : 0;

	r = r ?: net_attach(s->neth, s->l->id, &s->net, netns, err);
	return r < 0 ? vps_err_wrap(err, r, "network") : 0;
}

/* Until init is there and waits at its gate, with its network. */
static int hear_launched(struct start *s, int sock, struct vps_err *err)
{
	struct said said;
	bool attached = false;
	int r;

	do {
		autoclose int netns = -1;

		r = hear(sock, &said, &netns, err);
		if (r < 0)
			return r;
		s->state.init = said.init;
		if (!attached)
			r = attach(s, netns, said.network, err);
		attached = true;
		if (r == 0 && said.network && send(sock, "", 1, MSG_NOSIGNAL) != 1)
			r = vps_err_sys(err, -errno, "launcher");
	} while (r == 0 && said.network);
	if (r == 0 && s->checkpoint >= 0)
		r = apply_limits(s, false, err);
	return r;
}

/* From M's first word to the running VPS. Once the state says that it runs, a checkpoint's memory is no longer true:
 * it goes before the gate opens. */
static int bring_up(struct start *s, int sock, struct vps_err *err)
{
	struct said said;
	int r = hear_launched(s, sock, err);

	if (r == 0 && s->more.gate)
		r = s->more.gate(s->more.gate_arg, err);
	if (r == 0 && s->checkpoint >= 0)
		r = net_hold(s->neth, s->l->id, &s->net, false, err);
	if (r < 0)
		return r;
	s->state.phase = RUN_RUNNING;
	r = run_state_write(s->run_dir, &s->state, err);
	if (r == 0 && s->checkpoint >= 0)
		r = suspended_use(s->l, err);
	if (r < 0)
		return r;
	if (send(sock, "", 1, MSG_NOSIGNAL) != 1) {
		r = vps_err_sys(err, -errno, "launcher");
		if (s->checkpoint >= 0)
			suspended_unuse(s->l);
		return r;
	}
	return hear(sock, &said, NULL, err);
}

static int launch(struct start *s, struct vps_err *err)
{
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return vps_err_sys(err, -errno, "socketpair");
	/* M outlives this command, and so must not stand in its cgroup: a service of systemd that
	 * starts a VPS would kill M when it ends. */
	pid = proc_fork_into(cg_monitors_fd(s->cgh, NULL));
	if (pid == 0) {
		close(pair[0]);
		launcher(s, pair[1]);
	}
	close(pair[1]);
	if (pid < 0) {
		close(pair[0]);
		return vps_err_sys(err, pid, "fork");
	}
	close_fd(&s->mlock); /* M's from here */
	close_fd(&s->root.disk);
	close_fd(&s->root.disk_image);
	r = bring_up(s, pair[0], err);
	close(pair[0]);
	if (r < 0) {
		kill(pid,
		     SIGKILL); /* our child until we wait: no other process can have the number */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	return r;
}

static int make(struct start *s, struct vps_err *err)
{
	struct vps_locked *l = s->l;
	struct vps_err ignore = {0};
	int r = mark_starting(s, err);

	if (r == -VPS_ELOCKED)
		return r;
	r = r ?: make_cgroup(s, err);
	if (r == 0 && s->driver->machine)
		r = root_open_machine_disk(l, &s->root, err);
	r = r ?: launch(s, err);
	if (r == 0)
		return 0;
	close_fd(&s->mlock);
	close_fd(&s->root.disk);
	close_fd(&s->root.disk_image);
	if (s->checkpoint >= 0) {
		net_hold(s->neth, l->id, &s->net, false, NULL);
		if (s->cg && cg_is_frozen(s->cg) == 1) /* its gate never opened: the memory is as true as before */
			suspended_unuse(l);
	}
	if (teardown(l->h, l->id, &ignore) == 0)
		cancel_backoff(l); /* drops the run directory */
	return r;
}

static void tell_failure(struct vps_locked *l, const struct vps_err *why)
{
	struct event_field f = {.key = "error", .str = why->msg};

	(void)fs_write_rename(l->dir, "last-error", why->msg, strlen(why->msg), 0600);
	event_add(l->h->run_fd, l->id, l->spec.name, "start-failed", &f, 1);
}

static void tell_started(struct start *s)
{
	struct vps_locked *l = s->l;

	/* A machine's guest writes its files itself, and tells the monitor. */
	if (s->first_boot && !s->driver->machine)
		(void)fs_write_rename(l->dir, FIRST_BOOT_DONE, "", 0, 0600);
	unlinkat(l->dir, "last-error", 0);
	if (s->checkpoint >= 0)
		suspended_drop(l, NULL);
	event_add(l->h->run_fd, l->id, l->spec.name, s->checkpoint >= 0 ? "resume" : "start", NULL, 0);
}

int start_locked(struct vps_locked *l, const struct vps_start_opts *o,
		 const struct start_more *more, struct vps_err *err)
{
	auto_done(start_done) struct start s = {
		.l = l,
		.opts = o,
		.root = STOPPED_ROOT_INIT,
		.lxcfs = -1,
		.checkpoint = -1,
		.run_dir = -1,
		.mlock = -1,
	};
	struct vps_err why = {0};
	struct run_state now;
	int r;

	if (need_running(l, &now, NULL) == 0)
		return vps_err_set(err, VPS_ESTATE, "'%s' is running already", l->spec.name);
	r = ho_fence(l, "started", err);
	if (r < 0)
		return r;
	if (more)
		s.more = *more;
	cg_limits_init(&s.limits);
	r = suspended_open(l, &s.more, &s.checkpoint, &s.ran, &why);
	r = r < 0 ? r : prepare(&s, &why);
	r = r ?: make(&s, &why);
	if (r < 0) {
		if (!why.code)
			vps_err_sys(&why, r, "start");
		tell_failure(l, &why);
		return vps_err_set(err, why.code, "%s", why.msg);
	}
	tell_started(&s);
	return 0;
}

int start_wait(struct vps_locked *l, const struct vps_start_opts *o, struct vps_err *err)
{
	char id[ID_STR];

	id_str(l->id, id);
	locked_done(l);
	spec_init(&l->spec);
	if (!o || !o->wait)
		return 0;
	/* By id: it may be renamed while we wait. */
	return vps_wait(l->h, id, VPS_WAIT_READY, o->timeout_ms ? o->timeout_ms : READY_MS, NULL,
			err);
}

int vps_start(struct vps_host *h, const char *who, const struct vps_start_opts *o,
	      struct vps_err *err)
{
	auto_locked l = VPS_LOCKED_INIT;
	int r = vps_lock(h, who, "start", &l, err);

	if (r < 0)
		return r;
	r = start_locked(&l, o, NULL, err);
	return r < 0 ? vps_err_wrap(err, r, "start %s", l.spec.name) : start_wait(&l, o, err);
}
