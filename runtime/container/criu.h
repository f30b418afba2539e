/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRIU, which can stop a tree of processes, write it down and bring it back (https://criu.org). It is a program
 * of its own, found when it is needed and never linked: `criu swrk FD` speaks its RPC over a socket that we make.
 */
#ifndef VPS_RUNTIME_CRIU_H
#define VPS_RUNTIME_CRIU_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

struct vps_conf;

struct criu {
	char *path;
	unsigned version; /* 40201 is 4.2.1 */
};
#define CRIU_VERSION(a, b, c) ((a) * 10000u + (b) * 100u + (c))
void criu_done(struct criu *c);
/* "4.2.1" */
#define CRIU_VERSION_STR 24
char *criu_version_str(unsigned version, char buf[CRIU_VERSION_STR]);
/* Look for it: $VPS_CRIU, vps.conf's criu, configure's --with-criu, PATH; ask its version. conf may be NULL.
 * -VPS_EUNSUPPORTED when there is none that can be used on this kernel, with what to do about it. */
int criu_find(const struct vps_conf *conf, struct criu *ret, struct vps_err *err);
/* The oldest version that works on a kernel, as uname(2) has its release; why: words for the operator. */
unsigned criu_version_wanted(const char *release, const char **ret_why);
/* `criu check`: can it work on this kernel? -VPS_EUNSUPPORTED with its words. */
int criu_check(const struct criu *c, struct vps_err *err);

/* ---- one request ---- */

struct criu_job {
	pid_t pid; /* of criu, our child; 0: none */
	int sock;
};
#define CRIU_JOB_INIT { .sock = -1 }

struct criu_fd { char *key; int fd; };
struct criu_request {
	unsigned version; /* of the criu that is asked */
	bool restore;
	bool predump;	    /* only memory, and then it runs on */
	const char *parent; /* dump: its memory is what has changed since the images there, a path from dir. NULL: all of it */
	int dir;	  /* of the images: kept open until the end */
	int work;	  /* directory of its log and other notes of its own */
	const char *log;  /* file name of its log, in work */
	pid_t pid;	  /* dump: init */
	const char *root; /* restore */
	char **external;  /* strv */
	char **scan;	  /* strv: where watched files may be */
	const struct criu_fd *fds; /* restore: keys to fds, that the child inherits */
	size_t n_fds;
	const char *freeze; /* dump: cgroup to freeze it by */
	bool unprivileged;  /* it has another uid than 0 */
};
/* Starts criu. child (may be NULL) is run in it before it is executed: 0 or -errno. */
int criu_start(const struct criu *c, struct criu_job *j, int (*child)(void *arg), void *arg,
	       const struct criu_fd *fds, size_t n_fds, struct vps_err *err);
int criu_ask(struct criu_job *j, const struct criu_request *r, struct vps_err *err);

/* The next thing that it says. */
struct criu_event {
	bool last;	 /* the answer; else a notification that waits for criu_answer */
	char script[40]; /* of a notification: "post-dump", "setup-namespaces", … */
	bool success;
	pid_t pid;	 /* of the root task, in our PID namespace; 0 when not said */
	int cr_errno;
	char words[256];
};
/* -ECHILD when it died. */
int criu_next(struct criu_job *j, struct criu_event *ret, struct vps_err *err);
int criu_answer(struct criu_job *j, bool ok);
/* Does it say something within this time? */
bool criu_says(struct criu_job *j, int ms);
/* Are processes of this group held by ptrace(2)? checkpoint.c */
struct cg;
bool criu_is_at(struct cg *cg);
/* Closes the socket and reaps it. What it was doing it undoes first, when that can be undone. */
void criu_end(struct criu_job *j);
/* For a failure: the first complaints of its log, escaped, on one line. Owned; NULL when it has none. */
char *criu_log_words(int dir, const char *log);

/* After a dump or pre-dump: how long all stood still, and how much memory was written, from its notes in work. */
int criu_stats(int work, uint64_t *ret_frozen_us, uint64_t *ret_bytes);

/* Encoding and decoding alone, for tests: a strbuf of the message; an event of a message. */
int criu_encode(const struct criu_request *r, struct strbuf *ret);
int criu_decode(const void *msg, size_t len, struct criu_event *ret, unsigned *ret_version);
int criu_stats_decode(const void *msg, size_t len, uint64_t *ret_frozen_us, uint64_t *ret_bytes);

#endif
