/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One connection of the host's, in a process of its own. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/proc.h"
#include "runtime/guest/guest.h"

#define HELLO_MS   10000
#define REQUEST_MS 30000
#define STOP_WAIT_MS 80000
#define STOP_STEP_MS 50
/* Not in the kernel's exported headers: fs/ext4/ext4.h. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

/* ---- stop, reboot, signals ----------------------------------------------------- */

static bool init_is_systemd(void)
{
	char exe[256];
	ssize_t n = readlink("/proc/1/exe", exe, sizeof(exe) - 1);

	exe[n > 0 ? n : 0] = '\0';
	return str_ends(exe, "/systemd");
}

int stop_signal_of(const struct guest_cfg *c, int asked)
{
	if (c->role != GUEST_SYSTEM)
		return asked ? asked : c->stop_signal ? c->stop_signal : SIGTERM;
	/* a TERM from whoever knows no better; systemd would take it for "reload yourself" */
	if (!asked || asked == SIGTERM)
		asked = c->stop_signal ? c->stop_signal : SIGRTMIN + 4;
	/* systemd(1): +3 halts, which ends a container; +4 powers off */
	return asked == SIGRTMIN + 3 ? SIGRTMIN + 4 : asked;
}

static void send_init(int sig)
{
	kill(1, sig);
}

/* Init has no handlers while it begins, and would never hear of it: we wait until it has. The first is for those whose
 * sigtimedwait(2) does not show. */
static void stop_init(int sig)
{
	bool deaf = proc_takes_signal(1, sig) == 0;

	send_init(sig);
	if (!deaf)
		return;
	for (int ms = 0; ms < STOP_WAIT_MS && proc_takes_signal(1, sig) == 0; ms += STOP_STEP_MS)
		usleep(STOP_STEP_MS * 1000);
	send_init(sig);
}

/* The signal for init that a request means, or -errno. */
static int signal_of(struct guest *g, const struct agent_frame *f)
{
	uint32_t sig;

	switch (f->type) {
	case AGENT_STOP:
		if (g->stop_signal && *g->stop_signal >= 0)
			g->cfg.stop_signal = *g->stop_signal;
		return stop_signal_of(&g->cfg, 0);
	case AGENT_REBOOT:
		/* systemd: reboot.target; for the others what Ctrl-Alt-Del sends, inittab(5) */
		return g->cfg.role != GUEST_SYSTEM ? -EOPNOTSUPP : init_is_systemd() ? SIGRTMIN + 5 : SIGINT;
	default:
		sig = agent_u32(f->data);
		return sig < 1 || sig > (uint32_t)SIGRTMAX ? -EINVAL : (int)sig;
	}
}

/* ---- the disk ------------------------------------------------------------------ */

/* The block device may have grown: its file system, too. */
int disk_grow(int disk)
{
	char path[64], text[32];
	struct statfs fs;
	struct stat st;
	uint64_t blocks;

	if (fstat(disk, &st) < 0 || fstatfs(disk, &fs) < 0)
		return -errno;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/size", major(st.st_dev), minor(st.st_dev));
	if (fs_read_buf(AT_FDCWD, path, text, sizeof(text)) <= 0 ||
	    parse_u64(text, UINT64_MAX / 512, &blocks) < 0)
		return -ENODEV;
	blocks = blocks * 512 / (uint64_t)fs.f_bsize;
	return ioctl(disk, EXT4_IOC_RESIZE_FS, &blocks) < 0 ? -errno : 0;
}

/* Frozen for as long as somebody is there to thaw it. */
static void do_freeze(const struct guest *g, int conn, struct agent_in *in)
{
	struct agent_frame f;
	int r = ioctl(g->disk, FIFREEZE, 0) < 0 ? -errno : 0;

	if (r < 0) {
		struct agent_out o = {0};

		agent_out_add_error(&o, r, 0, NULL);
		agent_out_flush(&o, conn, true);
		return;
	}
	if (agent_send(conn, AGENT_DONE, 0, NULL, 0) == 0)
		agent_in_wait(in, conn, -1, &f); /* THAW, or the end */
	ioctl(g->disk, FITHAW, 0);
	agent_send(conn, AGENT_DONE, 0, NULL, 0);
}

static int do_thaw(int disk)
{
	return ioctl(disk, FITHAW, 0) < 0 ? -errno : 0;
}

/* ---- randomness, clock, console ------------------------------------------------ */

/* A clone of a machine has its original's random state until this. */
static int do_reseed(const uint8_t *data, size_t len)
{
	struct { struct rand_pool_info info; uint8_t bytes[512]; } p = {
		.info = {.entropy_count = (int)len * 8, .buf_size = (int)len}};
	autoclose int fd = open("/dev/random", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	memcpy(p.info.buf, data, len);
	return ioctl(fd, RNDADDENTROPY, &p) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0 ? -errno : 0;
}

static int do_clock(uint64_t ns)
{
	const struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	return clock_settime(CLOCK_REALTIME, &t) < 0 ? -errno : 0;
}

static int do_winsize(const uint8_t *p)
{
	const struct winsize ws = {.ws_row = agent_u16(p), .ws_col = agent_u16(p + 2)};
	autoclose int fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 || ioctl(fd, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

/* ---- the session --------------------------------------------------------------- */

static int do_simple(struct guest *g, const struct agent_frame *f, struct strbuf *sb)
{
	switch (f->type) {
	case AGENT_STAT:
		return stat_records(g, sb);
	case AGENT_RESEED:
		return do_reseed(f->data, f->len);
	case AGENT_CLOCK:
		return do_clock(agent_u64(f->data));
	case AGENT_RESUMED:
		return do_reseed(f->data + 8, f->len - 8) ?: do_clock(agent_u64(f->data));
	case AGENT_GROW:
		return disk_grow(g->disk);
	case AGENT_SYNC:
		sync();
		return 0;
	case AGENT_THAW:
		return do_thaw(g->disk);
	case AGENT_WINSIZE:
		return do_winsize(f->data);
	default:
		return -EPROTO;
	}
}

static void answer(int conn, int r, const struct vps_err *err)
{
	auto_done(agent_out_done) struct agent_out o = {0};

	r = r < 0 ? agent_out_add_error(&o, r, 0, err) : agent_out_add(&o, AGENT_DONE, 0, NULL, 0);
	if (r == 0)
		agent_out_flush(&o, conn, true);
}

static void send_procs(int conn)
{
	auto_strbuf sb = STRBUF_INIT;
	int r = procs_records(&sb);

	for (size_t at = 0; r == 0 && at < sb.len; at += AGENT_DATA_MAX) {
		size_t n = sb.len - at < AGENT_DATA_MAX ? sb.len - at : AGENT_DATA_MAX;

		r = agent_send(conn, AGENT_DATA, 1, sb.s + at, n);
	}
	answer(conn, r, NULL);
}

/* What the definition of a running guest has become. */
static int do_set(struct guest *g, const char *req, size_t len, struct vps_err *err)
{
	auto_done(guest_cfg_done) struct guest_cfg c = {0};
	int r = guest_cfg_parse(req, len, &c, err);

	for (char **s = c.sysctls; s && *s && r == 0; s++) {
		r = fs_write_sysctl(*s);
		if (r < 0)
			vps_err_sys(err, r, "sysctl '%s'", *s);
	}
	if (r == 0 && c.nic)
		r = links_change(&c, err);
	if (r == 0 && g->stop_signal)
		*g->stop_signal = c.stop_signal;
	return r;
}

/* The answer first: init may end, and we with it, before another instruction of ours. */
static void answer_signal(struct guest *g, int conn, const struct agent_frame *f)
{
	int sig = signal_of(g, f);

	answer(conn, sig, NULL);
	if (sig > 0 && f->type == AGENT_STOP)
		stop_init(sig);
	else if (sig > 0)
		send_init(sig);
}

static void answer_simple(struct guest *g, int conn, const struct agent_frame *f)
{
	auto_done(agent_out_done) struct agent_out o = {0};
	auto_strbuf sb = STRBUF_INIT;
	int r = do_simple(g, f, &sb);

	r = r < 0 ? agent_out_add_error(&o, r, 0, NULL)
		  : agent_out_add(&o, AGENT_DONE, 0, sb_str(&sb), sb.len);
	if (r == 0)
		agent_out_flush(&o, conn, true);
}

static int hello(int conn, struct agent_in *in)
{
	const uint32_t ours[2] = {htole32(AGENT_MAGIC), htole32(AGENT_VERSION)};
	struct agent_frame f;
	int r = agent_in_wait(in, conn, HELLO_MS, &f);

	if (r <= 0 || f.type != AGENT_HELLO || agent_u32(f.data) != AGENT_MAGIC)
		return -EPROTO;
	/* an other version is told ours, and goes away */
	r = agent_send(conn, AGENT_HELLO, 0, ours, sizeof(ours));
	return r < 0 ? r : agent_u16(f.data + 4) == AGENT_VERSION ? 0 : -EPROTO;
}

/* MORE frames, then the request: its payload, all of it, is in sb. */
static int request(int conn, struct agent_in *in, struct strbuf *sb, struct agent_frame *f)
{
	do {
		int r = agent_in_wait(in, conn, REQUEST_MS, f);

		if (r <= 0)
			return r < 0 ? r : -EPIPE;
		if (f->len)
			sb_addn(sb, f->data, f->len);
		if (sb->len > AGENT_REQUEST_MAX || sb_ok(sb) < 0)
			return -E2BIG;
	} while (f->type == AGENT_MORE);
	return 0;
}

void session_run(struct guest *g, int conn)
{
	auto_done(agent_in_done) struct agent_in in = AGENT_IN_INIT(false);
	auto_strbuf req = STRBUF_INIT;
	struct vps_err err = {0};
	struct agent_frame f;

	signal(SIGPIPE, SIG_IGN);
	if (hello(conn, &in) < 0 || request(conn, &in, &req, &f) < 0)
		return;
	switch (f.type) {
	case AGENT_EXEC:
		job_exec(g, conn, &in, sb_str(&req), req.len);
		break;
	case AGENT_PACK:
		job_pack(g, conn, &in, sb_str(&req), req.len);
		break;
	case AGENT_UNPACK:
		job_unpack(g, conn, &in, sb_str(&req), req.len);
		break;
	case AGENT_FREEZE:
		do_freeze(g, conn, &in);
		break;
	case AGENT_STOP:
	case AGENT_REBOOT:
	case AGENT_KILL:
		answer_signal(g, conn, &f);
		break;
	case AGENT_PROCS:
		send_procs(conn);
		break;
	case AGENT_SET:
		answer(conn, do_set(g, sb_str(&req), req.len, &err), &err);
		break;
	default:
		answer_simple(g, conn, &f);
	}
}
