/* SPDX-License-Identifier: GPL-2.0-or-later */
/* dirty MIB RATE: so much memory with something in it, of which RATE MiB a second are written, one page after the other. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define TICKS 50u /* a second */

int main(int argc, char **argv)
{
	size_t pages = argc == 3 ? strtoul(argv[1], NULL, 10) * (1048576 / PAGE) : 0;
	size_t step = argc == 3 ? strtoul(argv[2], NULL, 10) * (1048576 / PAGE) / TICKS : 0, at = 0;
	uint64_t x = 88172645463325252u, *mem;

	mem = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!pages || mem == MAP_FAILED)
		return 1;
	madvise(mem, pages * PAGE, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages * PAGE / 8; i++) { /* xorshift: nothing to compress */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		mem[i] = x;
	}
	puts("ready");
	fflush(stdout);
	for (;;) {
		for (size_t i = 0; i < step; i++, at = (at + 1) % pages)
			mem[at * PAGE / 8]++;
		nanosleep(&(struct timespec){.tv_nsec = 1000000000 / TICKS}, NULL);
	}
}
