/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest says to the host (frames, records, whole answers) and a host to a guest. First byte: to whom. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/guest/agent.h"
#include "runtime/vps.h"
#include "runtime/guestcfg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void frames(const uint8_t *p, size_t n, bool from_guest)
{
	struct agent_in in = AGENT_IN_INIT(from_guest);
	struct agent_frame f = {0};

	in.buf = malloc(sizeof(struct agent_head) + AGENT_DATA_MAX);
	while (in.buf) {
		ssize_t want = agent_in_next(&in, &f);

		if (want < 0 || (want > 0 && n == 0))
			break;
		if (want == 0) { /* each of its bytes is there */
			unsigned sum = 0;

			for (size_t i = 0; i < f.len; i++)
				sum += f.data[i];
			if (f.len > AGENT_DATA_MAX || f.stream > 2 || sum == 1u << 31)
				abort();
			continue;
		}
		size_t take = (size_t)want < n ? (size_t)want : n;

		memcpy(in.buf + in.have, p, take);
		in.have += take;
		p += take;
		n -= take;
	}
	agent_in_done(&in);
}

/* What is taken is written the same again. */
static void config(const char *text, size_t len)
{
	auto_strbuf a = STRBUF_INIT, b = STRBUF_INIT;
	struct guest_cfg c, d;

	if (guest_cfg_parse(text, len, &c, NULL) < 0)
		return;
	if (guest_cfg_write(&c, &a) < 0 || guest_cfg_parse(a.s, a.len, &d, NULL) < 0 ||
	    guest_cfg_write(&d, &b) < 0 || a.len != b.len || memcmp(a.s, b.s, a.len) != 0)
		abort();
	guest_cfg_done(&c);
	guest_cfg_done(&d);
}

/* Each of the host's dialogues, answered by this. */
static void dialogue(unsigned which, const void *data, size_t size)
{
	static const char *const argv[] = {"true", NULL};
	const struct agent_exec x = {.argv = (char *const *)argv};
	struct agent_stat st;
	struct vps_err err = {0};
	struct vps_proc *procs;
	size_t n;
	int s[2], status;

	if (size > 100000 || socketpair(AF_UNIX, SOCK_STREAM, 0, s) < 0)
		return;
	if (write(s[1], data, size) == (ssize_t)size && shutdown(s[1], SHUT_WR) == 0) {
		switch (which % 6) {
		case 0:
			agent_hello(s[0], 1000, &err);
			break;
		case 1:
			agent_stat(s[0], 1000, &st, &err);
			break;
		case 2:
			agent_exec(s[0], &x, 1000, &status, &err);
			break;
		case 4:
			if (agent_procs(s[0], 1000, &procs, &n, &err) == 0)
				vps_procs_free(procs, n);
			break;
		case 3:
			status = agent_bridge(s[0], (int[]){-1, -1, -1}, false, &err);
			if (status > 255)
				abort();
			break;
		default:
			agent_pack(s[0], "/x", -1, -1, &err);
		}
	}
	close(s[0]);
	close(s[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent_stat s;
	struct vps_proc *procs;
	unsigned to;
	size_t n;

	if (size < 1)
		return 0;
	to = data[0];
	data++;
	size--;
	switch (to & 7) {
	case 0:
	case 1:
		frames(data, size, to & 1);
		break;
	case 2:
		agent_stat_parse((const char *)data, size, &s);
		break;
	case 3:
		if (agent_procs_parse((const char *)data, size, &procs, &n) == 0)
			vps_procs_free(procs, n);
		config((const char *)data, size);
		break;
	default:
		dialogue(to >> 3, data, size);
	}
	return 0;
}
