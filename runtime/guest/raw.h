/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls and program start without a C library: x86-64 and aarch64 (syscall(2), "Architecture calling
 * conventions"). */
#ifndef VPS_GUEST_RAW_H
#define VPS_GUEST_RAW_H

#include <asm/unistd.h>
#include <stddef.h>

#if defined(__x86_64__)

static inline long raw5(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return ret;
}

/* The kernel's stack at execve: argc, argv, NULL, envp, NULL. */
__asm__(".globl _start\n"
	"_start:\n"
	"	xor %ebp, %ebp\n"
	"	mov %rsp, %rdi\n"
	"	and $-16, %rsp\n"
	"	call vps_init\n"
	"	hlt\n");

#elif defined(__aarch64__)

static inline long raw5(long nr, long a, long b, long c, long d, long e)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
			 : "memory");
	return x0;
}

__asm__(".globl _start\n"
	"_start:\n"
	"	mov x29, #0\n"
	"	mov x0, sp\n"
	"	bl vps_init\n"
	"	brk #0\n");

#else
#error "no system call convention for this machine yet"
#endif

static inline long raw0(long nr) { return raw5(nr, 0, 0, 0, 0, 0); }
static inline long raw1(long nr, long a) { return raw5(nr, a, 0, 0, 0, 0); }
static inline long raw2(long nr, long a, long b) { return raw5(nr, a, b, 0, 0, 0); }
static inline long raw3(long nr, long a, long b, long c) { return raw5(nr, a, b, c, 0, 0); }
static inline long raw4(long nr, long a, long b, long c, long d)
{
	return raw5(nr, a, b, c, d, 0);
}

_Noreturn void vps_init(long *stack);

#endif
