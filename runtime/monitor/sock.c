/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/mem.h"
#include "runtime/monitor/impl.h"

/* The caller holds the lock that goes with the name, so what is there is a dead one's. The umask is
 * 077 (main), so the socket is never open to others, not for an instant. */
int listen_at(int dirfd, const char *name, int backlog)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	/* Through the fd: sun_path holds 107 bytes, a run directory's path may not. */
	snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    fchmodat(dirfd, name, 0600, 0) < 0 || listen(fd, backlog) < 0)
		return -errno;
	return take_fd(fd);
}

bool peer_is_root(int fd)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.uid == 0;
}
