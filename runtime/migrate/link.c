// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/link.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/proc.h"


/* ---- the command ------------------------------------------------------------------------- */

/* One word of *s into sb; 1, 0 at the end, -EINVAL for a quote that is not closed. */
static int next_word(const char **s, struct strbuf *sb)
{
	char quote = 0;

	while (isspace((unsigned char)**s))
		(*s)++;
	if (!**s)
		return 0;
	for (; **s && (quote || !isspace((unsigned char)**s)); (*s)++) {
		if (quote && **s == quote)
			quote = 0;
		else if (!quote && (**s == '\'' || **s == '"'))
			quote = **s;
		else if (quote != '\'' && **s == '\\' && (*s)[1])
			sb_addc(sb, *++*s);
		else
			sb_addc(sb, **s);
	}
	return quote ? -EINVAL : 1;
}

static int split(const char *s, char ***argv, struct vps_err *err)
{
	const char *all = s;
	int r;

	for (;;) {
		auto_strbuf sb = STRBUF_INIT;
		r = next_word(&s, &sb);
		if (r <= 0)
			break;
		r = strv_take(argv, sb_take(&sb));
		if (r < 0)
			return vps_err_sys(err, r, "command");
	}
	return r < 0 ? vps_err_set(err, VPS_EUSAGE, "'%.200s': a quote is not closed", all) : 0;
}

static void __attribute__((noreturn)) child(char *const *argv, const char *path, int in, int out)
{
	sigset_t none;

	sigemptyset(&none);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	/* Ctrl-C is for us: we still have something to say over it. */
	setpgid(0, 0);
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(in, 0) < 0 || dup2(out, 1) < 0)
		_exit(127);
	execv(path, argv);
	_exit(127);
}

int link_spawn(const char *rsh, const char *host, const char *far, struct link *ret, struct vps_err *err)
{
	auto_strv argv = NULL;
	autofree char *path = NULL;
	int to[2], from[2], r = split(rsh, &argv, err);
	pid_t pid;

	if (r == 0 && !argv)
		return vps_err_set(err, VPS_EUSAGE, "--rsh: no command");
	r = r ?: strv_add(&argv, host);
	r = r ?: split(far, &argv, err);
	if (r < 0)
		return vps_err_sys(err, r, "command");
	path = proc_find(argv[0]);
	if (!path)
		return vps_err_set(err, VPS_EUNSUPPORTED, "'%s' is not installed: it is what leads to the other host (--rsh)",
				   argv[0]);
	if (pipe2(to, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "pipe");
	if (pipe2(from, O_CLOEXEC) < 0) {
		r = -errno;
		close(to[0]);
		close(to[1]);
		return vps_err_sys(err, r, "pipe");
	}
	pid = fork();
	if (pid == 0)
		child(argv, path, to[0], from[1]);
	r = pid < 0 ? -errno : 0;
	close(to[0]);
	close(from[1]);
	if (r < 0) {
		close(to[1]);
		close(from[0]);
		return vps_err_sys(err, r, "fork");
	}
	ret->pid = pid;
	ret->out = to[1];
	ret->in = from[0];
	return 0;
}

/* ---- two streams --------------------------------------------------------------------------- */

static int nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

int link_begin(struct link *l, const struct stream_opts *o, struct vps_err *err)
{
	struct stream_opts plain = *o;
	int r = nonblocking(l->in);

	r = r ?: nonblocking(l->out);
	if (r < 0)
		return vps_err_sys(err, r, "connection");
	r = stream_out_begin(l->out, WIRE_KIND, wire_types, wire_n_types, o, &l->w.s, err);
	plain.level = 0;
	r = r ?: stream_in_begin(l->in, WIRE_KIND, wire_types, wire_n_types, &plain, &l->r, err);
	return r < 0 ? vps_err_wrap(err, r, "connection") : 0;
}

void link_done(struct link *l)
{
	l->w.s = stream_out_free(l->w.s);
	l->r = stream_in_free(l->r);
	close_fd(&l->out);
	close_fd(&l->in);
	if (l->pid > 0)
		while (waitpid(l->pid, NULL, 0) < 0 && errno == EINTR)
			;
	l->pid = 0;
}

void link_cut(struct link *l)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return;
	/* in the same place, as the streams know it */
	if (l->in >= 0)
		dup3(fd, l->in, O_CLOEXEC);
	if (l->out >= 0) {
		int ends[2];
		if (pipe2(ends, O_CLOEXEC) == 0) {
			close(ends[0]); /* EPIPE from here on */
			dup3(ends[1], l->out, O_CLOEXEC);
			close(ends[1]);
		}
	}
	close(fd);
}

int link_read(struct link *l, struct vps_err *err)
{
	int r = stream_next(l->r, &l->rec, err);

	return r == 0 ? vps_err_sys(err, -EPIPE, "connection") : r < 0 ? r : 0;
}

int link_put_json(struct link *l, enum wire_type t, void (*fill)(const void *arg, struct json_out *o), const void *arg,
		  struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);
	int r;

	fill(arg, &o);
	r = sb_ok(&sb);
	return r < 0 ? vps_err_sys(err, r, "message") : stream_put(l->w.s, t, sb.s, sb.len, err);
}

int link_json(const struct link *l, struct json **ret, struct vps_err *err)
{
	int r = json_parse((const char *)l->rec.data, l->rec.len, ret, err);

	return r == -EINVAL ? vps_err_wrap(err, -VPS_EBADIMAGE, "what the other host says") : r;
}

/* ---- words ------------------------------------------------------------------------------------ */

int link_put_words(struct link *l, const struct vps_err *why)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, false);

	jo_object(&o, NULL);
	jo_int(&o, "code", why->code);
	jo_str(&o, "message", why->msg);
	jo_end_object(&o);
	return sb_ok(&sb) ?: stream_put(l->w.s, WIRE_WORDS, sb.s, sb.len, NULL);
}

int link_take_words(const struct link *l, struct vps_err *ret)
{
	auto_json j = NULL;
	int64_t code;
	int r = link_json(l, &j, ret);

	if (r < 0)
		return r;
	code = json_int(json_get(j, "code"), 0);
	if (code <= 0 || code > VPS_EINTERRUPTED)
		code = EREMOTEIO;
	return vps_err_set(ret, (int)code, "on the other host: %.400s", json_str(json_get(j, "message"), "failed"));
}
