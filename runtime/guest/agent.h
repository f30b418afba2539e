/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What host and guest say to each other over vsock, and the host's half of it.
 *
 * The agent (vps-guest, beside the guest's init) listens on guest port 1, for the host only. One
 * connection is one session: HELLO both ways, then one request, then what belongs to it; the
 * host closes. A frame is struct agent_head, little endian, and `len` bytes.
 *
 *   exec              EXEC, then DATA and END of stream 0, WINSIZE, SIGNAL from the host; STARTED or
 *                     ERROR, DATA and END of streams 1 and 2, at last EXIT from the guest. With a
 *                     terminal, stream 1 is its output. A host that goes away kills the command.
 *   pack, unpack      a tar stream as stream 1 or 0, then DONE or ERROR
 *   procs             records as stream 1, then DONE or ERROR
 *   everything else   DONE (with what was asked for) or ERROR
 *
 * The host sends at most AGENT_WINDOW bytes of stream 0 ahead of the CREDIT that the guest gives for
 * what it has passed on: a command that does not read its input does not hold up its signals.
 *
 * Towards the host the agent connects to host port AGENT_NOTIFY_PORT, from a port below 1024, which
 * in the guest only its root can have: lines (AGENT_LINE_MAX) "READY=1" and whatever else
 * sd_notify(3) says, "EXIT=<0..255>" before the guest powers off by itself, "REBOOT=1" before it
 * starts anew, "ERROR=<words>" when it could not be brought up. Other guest ports that connect are
 * anybody's.
 *
 * Whatever the host reads here was written by a tenant: bounded, checked, fuzzed.
 */
#ifndef VPS_RUNTIME_GUEST_AGENT_H
#define VPS_RUNTIME_GUEST_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define AGENT_PORT	  1u /* guest's */
#define AGENT_NOTIFY_PORT 1u /* host's; then the command's stdio, where it has no terminal */
#define AGENT_EXPORT_PORT 2u /* host's: the tar stream of GUEST_EXPORT; the session of GUEST_SESSION */
#define AGENT_STDIO_PORT  16u /* host's: 16 stdin, 17 stdout, 18 stderr of the main command */
#define AGENT_LINE_MAX	  4096u

#define AGENT_MAGIC	  0x41535056u /* "VPSA" */
#define AGENT_VERSION	  1u
#define AGENT_DATA_MAX	  65536u
/* Linux before 6.3 has each packet of a vsock in one piece (kmalloc()): one of 64 KiB fails in a small guest whose memory
 * is in use. */
#define AGENT_SEND_MAX	  16384u
#define AGENT_REQUEST_MAX (1u << 20) /* MORE frames and the request together */
#define AGENT_WINDOW	  (256u << 10)

struct agent_head {
	uint8_t type, stream;
	uint16_t zero;
	uint32_t len;
};

enum agent_type {
	AGENT_HELLO = 1, /* u32 magic, u16 version, u16 zero */
	AGENT_DATA,	 /* bytes of a stream */
	AGENT_END,	 /* of a stream */

	/* from the host */
	AGENT_MORE = 16, /* comes before the payload of the request that follows */
	AGENT_EXEC,	 /* records: arg… env… user cwd tty rows cols detach */
	AGENT_WINSIZE,	 /* u16 rows, u16 columns; as a request: the console's */
	AGENT_SIGNAL,	 /* u32 */
	AGENT_PACK,	 /* records: path */
	AGENT_UNPACK,	 /* records: path uid gid */
	AGENT_STAT,	 /* DONE: records, agent_stat */
	AGENT_STOP,	 /* the stop signal of the definition; DONE when it is sent */
	AGENT_REBOOT,
	AGENT_KILL,	 /* u32: a signal to the main command, or to init */
	AGENT_RESEED,	 /* up to 512 bytes for the kernel's random pool, counted as entropy */
	AGENT_CLOCK,	 /* u64: nanoseconds since 1970 */
	AGENT_GROW,	 /* the disk's file system to the disk's size */
	AGENT_SYNC,
	AGENT_FREEZE,	 /* the disk's file system; DONE; until THAW or the session's end */
	AGENT_THAW,
	AGENT_PROCS,	 /* records, each process from its pid on: pid uid rss cpu state cmd */
	/* runtime/guestcfg.h's records: sysctls, and what eth0 is to have from now on (when nic is said); a
	 * stop signal for AGENT_STOP */
	AGENT_SET,
	AGENT_RESUMED, /* u64 as CLOCK, 64 bytes as RESEED; by vps-vmm, after a restore (vmm/waker.c) */

	/* from the guest */
	AGENT_STARTED = 64, /* u32 pid */
	AGENT_CREDIT,	    /* u32: bytes of stream 0 */
	AGENT_EXIT,	    /* u32: as a shell has it */
	AGENT_DONE,
	AGENT_ERROR, /* u32 code (base/err.h), u32 exit status of a failed exec, words */
};

/* ---- wire.c: frames and records, for both sides ------------------------------------------- */

/* Frames out of a stream of bytes. `from_guest`: which half of the types is allowed. */
struct agent_in {
	bool from_guest;
	uint8_t *buf; /* room for one frame */
	size_t have;
};
#define AGENT_IN_INIT(guest) { .from_guest = (guest) }
void agent_in_done(struct agent_in *in);
struct agent_frame {
	enum agent_type type;
	unsigned stream;
	const uint8_t *data; /* good until the next agent_in_ call */
	size_t len;
};
/* Read once from fd (it may be nonblocking). 1: a frame; 0: the end, between frames; -EAGAIN: not
 * whole yet; -EPROTO: no frame that may come from there, or of a wrong size; -errno. */
int agent_in_read(struct agent_in *in, int fd, struct agent_frame *ret);
/* The same, waiting for a whole one: timeout_ms for all of it, -1: for ever. -ETIMEDOUT, -EINTR. */
int agent_in_wait(struct agent_in *in, int fd, int timeout_ms, struct agent_frame *ret);
/* The pure part: how many more bytes the frame at hand wants; 0: it is whole and in ret. -EPROTO. */
ssize_t agent_in_next(struct agent_in *in, struct agent_frame *ret);

/* Frames on their way out. */
struct agent_out {
	struct strbuf buf;
	size_t sent;
};
void agent_out_done(struct agent_out *o);
int agent_out_add(struct agent_out *o, enum agent_type type, unsigned stream, const void *data,
		  size_t len);
int agent_out_add_u32(struct agent_out *o, enum agent_type type, uint32_t v);
/* The words are err's, or r's. */
int agent_out_add_error(struct agent_out *o, int r, int status, const struct vps_err *err);
static inline size_t agent_out_left(const struct agent_out *o) { return o->buf.len - o->sent; }
/* Send what the socket takes now; wait: all of it. 0 or -errno. */
int agent_out_flush(struct agent_out *o, int fd, bool wait);
/* One frame, at once and waiting. No SIGPIPE. 0 or -errno. */
int agent_send(int fd, enum agent_type type, unsigned stream, const void *data, size_t len);
/* A payload of any length up to AGENT_REQUEST_MAX, in MORE frames and this one. */
int agent_send_request(int fd, enum agent_type type, const void *data, size_t len);
uint16_t agent_u16(const uint8_t *p);
uint32_t agent_u32(const uint8_t *p);
uint64_t agent_u64(const uint8_t *p);

/* Records "key=LEN:BYTES\n": the payload of requests, and /vps/config of the initramfs. */
void rec_add(struct strbuf *sb, const char *key, const char *value); /* NULL: nothing */
void rec_addn(struct strbuf *sb, const char *key, const void *p, size_t n);
void rec_add_u64(struct strbuf *sb, const char *key, uint64_t v);
void rec_add_strv(struct strbuf *sb, const char *key, char *const *v);
#define REC_KEY_MAX 32
struct rec {
	char key[REC_KEY_MAX];
	char *value; /* NUL-terminated copy; the caller's to free */
	size_t len;
};
static inline void rec_done(struct rec *r) { free(r->value); }
/* 1: one record, and *text, *len moved behind it; 0: the end; -EPROTO, -ENOMEM. */
int rec_next(const char **text, size_t *len, struct rec *ret);
/* Its value as a string without NULs / as a number: -EPROTO. */
int rec_str(struct rec *r, char **ret);	   /* instead of what is there */
int rec_strv(struct rec *r, char ***ret); /* added */
int rec_u64(const struct rec *r, uint64_t max, uint64_t *ret);

/* ---- client.c: the host's side ------------------------------------------------------------ */

/* fd: a fresh connection to AGENT_PORT (vmm_api_vsock). HELLO both ways. -ETIMEDOUT, -EPROTO. */
int agent_hello(int fd, int timeout_ms, struct vps_err *err);
/* A request that ends with DONE; its payload into ret (may be NULL). */
int agent_call(int fd, enum agent_type type, const void *data, size_t len, int timeout_ms,
	       struct strbuf *ret, struct vps_err *err);

struct agent_exec {
	char *const *argv, *const *env; /* env: added to the main command's, or a plain root's */
	const char *user, *cwd;
	bool tty, detach;
	unsigned short rows, cols;
};
/* After it the command runs: agent_bridge, or close for a detached one. -VPS_EEXEC with *ret_status
 * 126 or 127. */
int agent_exec(int fd, const struct agent_exec *x, int timeout_ms, int *ret_status,
	       struct vps_err *err);
/* Pass bytes both ways until the command has ended. io: stdin, stdout, stderr, or -1 each (with a
 * terminal: the same terminal as [0] and [1]; changes of its size are passed on). Signals that this
 * process gets meanwhile go to the command: so call it in a child of its own, without threads, that
 * has SIGPIPE at its default. The exit status, or -errno. */
int agent_bridge(int fd, const int io[3], bool tty, struct vps_err *err);

/* cp: as vps_copy_out and vps_copy_in (runtime/vps.h). The stream that comes out is a tenant's.
 * -VPS_ETIMEDOUT after idle_ms in which the guest neither sent nor took anything; -1: for ever. */
int agent_pack(int fd, const char *path, int tar_fd, int idle_ms, struct vps_err *err);
int agent_unpack(int fd, const char *path, long uid, long gid, int tar_fd, int idle_ms,
		 struct vps_err *err);

struct agent_stat { /* bytes, seconds; of the guest's own view */
	uint64_t mem_total, mem_free, mem_available, mem_cached, swap_total, swap_free;
	uint64_t load1, load5, load15; /* hundredths */
	uint64_t uptime, processes, threads;
	uint64_t disk_size, disk_used, inodes, inodes_used;
	uint64_t cpu_user, cpu_system, cpu_idle, cpu_steal; /* microseconds, all CPUs */
};
int agent_stat(int fd, int timeout_ms, struct agent_stat *ret, struct vps_err *err);
/* Unknown keys are skipped, so that host and guest may be of different age. */
int agent_stat_parse(const char *text, size_t len, struct agent_stat *ret);

/* The guest's processes, without its kernel's own: vps_procs_free. host_pid is 0. */
struct vps_proc;
int agent_procs(int fd, int timeout_ms, struct vps_proc **ret, size_t *ret_n, struct vps_err *err);
/* Its pure part; -EPROTO, -E2BIG. */
int agent_procs_parse(const char *text, size_t len, struct vps_proc **ret, size_t *ret_n);

#endif
