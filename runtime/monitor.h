/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The keeper of one running VPS: vps-monitor, a small executable of its own.
 *
 *   vps start ── fork, setsid ── M: driver->launch (init is M's child, gated), state.json, network
 *                                M: monitor_exec() ── the same process is now vps-monitor
 *
 * So M stays init's parent and can reap it. The monitor listens on <run>/<id>/ctl (runtime/ctl.h),
 * opens the gate, says on the report pipe that it is up, and then only waits: for init's end, for
 * console bytes, for READY=1, for OOM, for clients.
 *
 * When init has ended, the monitor (1) drains the console, (2) writes instances/<id>/last (I1), an
 * event, and tells every client CTL_EXIT; (3) sees that the run state is torn down: by the
 * client that asked for the stop (CTL_STOP) while that one is connected, else by the child
 * `vps _teardown ID`; (4) restarts or ends: after the back-off it executes `vps _restart ID` in its
 * own place, or removes its files of the run directory and exits. Step 3 is over when
 * <run>/<id>/state.json is gone; steps run again, in any order, do no harm.
 *
 * Files, all in the run directory unless said:
 *   ctl            socket, mode 0600
 *   monitor.lock   held (flock) as long as a monitor lives: two monitors cannot be
 *   monitor        one line, struct monitor_status; replaced by rename
 *   instance: last, console.log, console.log.1
 *
 * A monitor that was killed: its VPS goes on, since <run>/keeper (one process a host, the same
 * executable; runtime/keeper.h) holds a second copy of the console, notify and OOM fds. The next
 * command that finds a running VPS with monitor_alive() false calls monitor_adopt().
 */
#ifndef VPS_RUNTIME_MONITOR_H
#define VPS_RUNTIME_MONITOR_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/proc.h"

/* In the instance directory: a start succeeded since create, and its files are in the root. */
#define FIRST_BOOT_DONE "first-boot-done"

/* Opens a gate: one byte, which a pipe takes as any other, and cgroup.freeze as "thaw". */
#define GATE_WORD "0"

enum monitor_policy { MONITOR_RESTART_NO, MONITOR_RESTART_ON_FAILURE, MONITOR_RESTART_ALWAYS };

struct monitor_args {
	unsigned id;
	const char *name;
	/* absolute, for `vps --root … _teardown ID`; conf may be NULL */
	const char *root, *run, *conf;
	int run_dir, instance_dir;     /* directory fds */

	struct proc_ident init;
	int pidfd;		       /* of init */
	int console;		       /* pty master, or -1 */
	int pipes[3];		       /* our ends of init's stdin, stdout, stderr, or -1 */
	int notify;		       /* NOTIFY_SOCKET, or -1: then ready at once */
	int oom;		       /* cg_oom_fd, or -1 */
	/* a file with the line "oom_kill N" (cg_oom_stat_fd), or -1 */
	int oom_stat;
	int gate;		       /* struct vps_launched.gate, or -1 when released already */
	/* monitor.lock, held (flock) by the caller already, so that from the fork on there is no
	 * moment in which a start is under way and nobody holds it; or -1: the monitor takes it
	 * itself. */
	int lock;
	/* pipe of the waiting command, or -1: one struct vps_err when up (code 0) or failed; then
	 * it is closed */
	int report;

	uint64_t started;	       /* seconds since 1970 */
	/* bytes of console.log and console.log.1 together; 0: none */
	uint64_t console_log_max;
	enum monitor_policy restart;
	unsigned restart_max;	       /* 0: no cap */
	unsigned restarts;	       /* so far; a start by the operator: 0 */
	/* in a row, behind the back-off; a start by the operator: 0 */
	unsigned failures;
	bool hold_for_attach;	       /* open the gate when the first client is attached */
	bool ready;		       /* init has said so before (a resume) */
	bool lxcfs;		       /* views come from the host's lxcfs: watch it */
	bool adopt;		       /* set by monitor_adopt */
};
/* Every fd -1. */
void monitor_args_init(struct monitor_args *a);

/* Become the monitor; the calling process must be init's parent and single-threaded. On success it
 * does not return. The fds need not be inheritable (this sees to it); every other fd is closed.
 * The executable is $VPS_LIBEXEC/vps-monitor (build tree, tests) or PKGLIBEXECDIR/vps-monitor. On
 * failure -errno: nothing was changed, the gate is still shut and the caller unwinds. */
int monitor_exec(const struct monitor_args *a, struct vps_err *err);

/* Take <run>/<id>/monitor.lock (flock): a launcher does before it makes anything, and passes it
 * on. The fd; -EWOULDBLOCK when a launcher or monitor has it, -errno. */
int monitor_lock(int run_dir);
/* Is there a monitor (or launcher)? 1, 0, or -errno. No path or pid that could be reused is
 * trusted: it asks for monitor.lock. */
int monitor_alive(int run_dir);

/* Start a new monitor for a running VPS whose monitor is gone, and wait until it is up. Call with
 * the VPS's lock held. a: id, name, root, run, directories, init, started, limits and policy;
 * pidfd may be -1 (opened from init); console, pipes, notify, oom come from the keeper; restarts,
 * failures, ready, a stop under way from its predecessor's status. -VPS_ESTATE: there is one.
 * -ESRCH: init is gone: call monitor_lost(). cgroup: of cg_monitors_fd, -1: the caller's own. */
int monitor_adopt(const struct monitor_args *a, int cgroup, struct vps_err *err);
/* Both the monitor and init are gone: write instances/<id>/last with exit code -1 (unless it is
 * written: the same init) and an event, take the fds back from the keeper. The caller then
 * tears down and removes the monitor's files of the run directory. */
int monitor_lost(const struct monitor_args *a, struct vps_err *err);

/* <run>/<id>/monitor */
enum monitor_phase {
	MONITOR_UP,	  /* init runs, or waits for the gate */
	MONITOR_STOPPING, /* somebody asked for a stop */
	MONITOR_ENDED,	  /* init has ended; teardown */
	MONITOR_BACKOFF,  /* between two runs: VPS_RESTARTING */
};
struct monitor_status {
	enum monitor_phase phase;
	pid_t pid;
	bool ready;
	uint64_t oom_kills;
	unsigned restarts, failures;
	uint64_t next;		/* MONITOR_BACKOFF: seconds since 1970 of the next start */
	char text[128];		/* the last STATUS= of init, escaped; "" */
};
/* 0, -ENOENT when there is none. Not a proof of life: monitor_alive is. `vps _restart` reads it in
 * the phase BACKOFF and passes restarts and failures on to the new monitor. */
int monitor_status_read(int run_dir, struct monitor_status *ret);

/* instances/<id>/last: how the last run ended. */
enum monitor_cause {
	MONITOR_EXITED,	  /* init ended by itself */
	MONITOR_SIGNALED, /* ... by a signal from outside, or a crash */
	MONITOR_REBOOT,	  /* reboot(2) inside: restart */
	MONITOR_HALT,	  /* reboot(2) inside: halt or power off */
	MONITOR_STOP,	  /* the operator's stop */
	MONITOR_LOST,	  /* nobody saw the end */
};
const char *monitor_cause_name(enum monitor_cause c);
struct monitor_last {
	int exit_code; /* 0..255, 128+signal; -1 not known */
	enum monitor_cause cause;
	uint64_t started, stopped; /* seconds since 1970 */
	uint64_t oom_kills;
	unsigned restarts;
	pid_t init;	     /* whose end it was, */
	uint64_t init_start; /* struct proc_ident of this boot or another */
};
/* 0, -ENOENT when it never ran. */
int monitor_last_read(int instance_dir, struct monitor_last *ret);
int monitor_last_write(int instance_dir, const struct monitor_last *l); /* I1 */

#endif
