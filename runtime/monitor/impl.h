/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside vps-monitor. One thread, one poll(2) loop, no allocation while idle; what a tenant can make it do
 * (console bytes, notify datagrams, OOM) is bounded by a budget a tick.
 */
#ifndef VPS_RUNTIME_MONITOR_IMPL_H
#define VPS_RUNTIME_MONITOR_IMPL_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/sys.h"
#include "runtime/ctl.h"
#include "runtime/keeper.h"
#include "runtime/monitor.h"
#include "runtime/monitor_args.h"

#define MAX_CLIENTS 64
#define QUEUE_SIZE  (64u << 10) /* console bytes kept for a client that does not read */
#define TICK_MS	    100
#define LOG_BUDGET  (1u << 20) /* console bytes a tick: 10 MiB/s */
#define NOTE_BUDGET 64	       /* notify datagrams a tick */
#define MS	    1000000ull
#define SEC	    1000000000ull

struct client {
	int fd; /* -1: free */
	bool attached, exclusive, watching;
	bool stopping; /* sent CTL_STOP: teardown is its */
	bool still;    /* keeps the VPS still as long as it is there */
	bool told;     /* has CTL_EXIT */
	uint64_t lost; /* bytes dropped in front of the queue */
	char *queue;   /* QUEUE_SIZE by mmap while anything waits, else NULL */
	size_t head, tail;
};

enum slot { /* of the poll set; clients follow */
	P_INIT, P_CTL, P_NOTIFY, P_OOM, P_OUT, P_ERR, P_IN, P_KEEPER, P_LXCFS, P_HELPER, P_CLIENTS
};

enum timer {
	T_TICK,	    /* budgets are full again */
	T_STATUS,   /* the status file is due */
	T_OOM,	    /* count kills again */
	T_OOM_LOOK, /* until then its fd is not polled */
	T_HOLD,	    /* nobody attached: open the gate all the same */
	T_BACKOFF,  /* start again */
	T_TEARDOWN, /* try again */
	T_REAP,	    /* the adopter's patience for an exit code */
	T_KEEPER,   /* find or start a keeper again */
	T_LXCFS,    /* heal again */
	T_THAW,	    /* who kept the VPS still is gone: does it go on? */
	T_LINGER,   /* the last words have had their time */
	T_N
};

#define CONSOLE_TAIL 512
struct console {
	int out[2];	/* pty master; or stdout and stderr */
	int in;		/* pty master (the same fd); or stdin */
	int peer;	/* our own slave of the pty: no hang-up while nobody inside has it open */
	bool pty, paused; /* paused: the budget of this tick is spent */
	bool in_end;	/* close stdin once pending is written */
	uint32_t spent;	/* bytes this tick */
	char pending[4096]; /* input that init has not taken */
	size_t n_pending;
	int log;
	uint64_t log_size;
	char tail[CONSOLE_TAIL]; /* what came last, for the event of a bad end */
	size_t n_tail;
};

struct monitor {
	struct monitor_args a;
	int run_fd; /* the host's run directory */
	int lock, ctl, keeper, lxcfs, helper;
	int told; /* init's wait status as it said itself by NOTIFY_SOCKET, or -1 */
	struct pollfd set[P_CLIENTS + MAX_CLIENTS];
	struct client clients[MAX_CLIENTS];
	struct console con;
	uint64_t due[T_N]; /* CLOCK_MONOTONIC ns; 0: off */

	struct monitor_status st;
	uint64_t oom_told; /* kills already in an event */
	unsigned notes;	   /* datagrams this tick */
	bool stop;	   /* the operator asked for it */
	bool stop_by_client; /* and is, or was, a client */
	bool drained;	   /* after init's end: the console has said all */
	bool recorded;
	bool heal;	   /* the helper is a healer, not a teardown */
	bool over;
	int exit_code;
	enum monitor_cause cause;
	unsigned teardowns, lxcfs_tries;
	unsigned restart_delay_s;
	bool restart;
};

static inline bool init_ended(const struct monitor *m) { return m->st.phase >= MONITOR_ENDED; }
static inline void timer_in(struct monitor *m, enum timer t, uint64_t ms)
{
	m->due[t] = sys_now_mono() + ms * MS;
}

/* main.c */
void say(struct monitor *m, const char *event, const char *key, const char *str, int64_t num);
/* Write the status file and tell the watchers. */
void status_changed(struct monitor *m);
void open_gate(struct monitor *m);
void ignore_signals(void);

#define STILL_NOTE "frozen" /* in the run directory: runtime/migrate/still.c */
#define THAW_MS	   200 /* one that was killed may have a guard, which is faster */

/* console.c */
void console_open(struct monitor *m);
/* Which of the console's fds the loop shall poll. */
void console_poll(struct monitor *m);
void console_event(struct monitor *m);
void console_input(struct monitor *m, const char *data, size_t n);
void console_winsize(struct monitor *m, unsigned rows, unsigned cols);
/* After init's end: read what is left. Sets m->drained. */
void console_drain(struct monitor *m);
/* The last lines, at most CONSOLE_LAST, into a buffer of more than CONSOLE_TAIL bytes. */
#define CONSOLE_LAST 5
void console_last(const struct monitor *m, char *buf);

/* clients.c */
void clients_init(struct monitor *m);
void clients_poll(struct monitor *m);
void clients_event(struct monitor *m);
void client_accept(struct monitor *m);
/* The exclusive client that wants every byte and has no room: 1 when reading must wait. */
bool clients_full(const struct monitor *m);
void clients_out(struct monitor *m, enum ctl_type type, const char *data, size_t n);
void clients_status(struct monitor *m);
/* CTL_EXIT to whom it is due: watchers at once, attached ones behind the last byte. */
void clients_exit(struct monitor *m);
bool clients_pending(const struct monitor *m);
bool clients_stopping(const struct monitor *m);
/* After all else, with the lock let go: wait for the exclusive client to read what is its. */
void clients_last_words(struct monitor *m);
void clients_close(struct monitor *m);

/* end.c */
void init_event(struct monitor *m);
void end_step(struct monitor *m);
void end_timers(struct monitor *m, uint64_t now);
void helper_event(struct monitor *m);
/* Run `vps --root … VERB ID` as a child (watched by m->helper), or in our place. */
int helper_start(struct monitor *m, const char *verb);
void helper_exec(struct monitor *m, const char *verb);

/* watch.c: notify, oom, lxcfs, keeper */
void notify_event(struct monitor *m);
void oom_event(struct monitor *m);
void oom_count(struct monitor *m);
void lxcfs_watch(struct monitor *m);
void lxcfs_died(struct monitor *m);
/* Hand our fds to the keeper, which is started when need be. */
void keeper_hand_over(struct monitor *m);
/* For an adopter: take them back. */
void keeper_take(struct monitor *m);

/* keeper_main.c, sock.c */
int keeper_main(int run_fd, int ready_fd);
int listen_at(int dirfd, const char *name, int backlog);
bool peer_is_root(int fd);

#endif
