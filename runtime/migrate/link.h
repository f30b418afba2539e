/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The way to the other host: a command's standard input and output, as two streams. */
#ifndef VPS_RUNTIME_MIGRATE_LINK_H
#define VPS_RUNTIME_MIGRATE_LINK_H

#include "base/json.h"
#include "runtime/migrate/wire.h"

struct link {
	pid_t pid; /* of the command; 0: none */
	int in, out;
	struct wire_out w;
	struct stream_in *r;
	struct stream_rec rec; /* the last one read */
};
#define LINK_INIT { .in = -1, .out = -1 }

/* Words of rsh (as a shell would split them, quotes and backslashes included), host, words of far: that command is run, its
 * standard error is ours. */
int link_spawn(const char *rsh, const char *host, const char *far, struct link *ret, struct vps_err *err);
/* Both headers. The fds become non-blocking. */
int link_begin(struct link *l, const struct stream_opts *o, struct vps_err *err);
void link_done(struct link *l);
/* As if the wire were cut: nothing is read or sent any more. */
void link_cut(struct link *l);
#define auto_link auto_done(link_done) struct link

/* The next record into l->rec: 0. The end of the stream is -EPIPE. */
int link_read(struct link *l, struct vps_err *err);
/* A JSON document as one record. */
int link_put_json(struct link *l, enum wire_type t, void (*fill)(const void *arg, struct json_out *o), const void *arg,
		  struct vps_err *err);
/* Of l->rec. */
int link_json(const struct link *l, struct json **ret, struct vps_err *err);
/* An error for the other side to show, and what it says of itself. */
int link_put_words(struct link *l, const struct vps_err *why);
int link_take_words(const struct link *l, struct vps_err *ret);

#endif
