/* SPDX-License-Identifier: GPL-2.0-or-later */
/* attack_swap A B: exchange the two names as fast as it goes (path races), until killed. For isolation.sh;
 * static: it runs inside. The number of exchanges goes to A.count now and then. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE 2
#endif

int main(int argc, char **argv)
{
	char path[4096];
	if (argc != 3)
		return 2;
	snprintf(path, sizeof(path), "%s.count", argv[1]);
	FILE *f = fopen(path, "w");
	if (!f)
		return 2;
	for (unsigned long n = 0;; n++) {
		if (syscall(SYS_renameat2, AT_FDCWD, argv[1], AT_FDCWD, argv[2], RENAME_EXCHANGE) < 0) {
			perror("attack_swap");
			return 1;
		}
		if (n % 1024 == 0) {
			rewind(f);
			fprintf(f, "%lu\n", n);
			fflush(f);
		}
	}
}
