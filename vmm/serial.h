/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A 16550A at COM1 with its FIFOs and interrupts: the console. Output goes to a nonblocking fd
 * through a bounded buffer; when nobody reads, the oldest is lost, so no guest waits for it. */
#ifndef VPS_VMM_SERIAL_H
#define VPS_VMM_SERIAL_H

#include <pthread.h>

#include "base/err.h"
#include "vmm/loop.h"

#define SERIAL_PORT 0x3f8
#define SERIAL_IRQ  4
#define SERIAL_FIFO 16
#define SERIAL_OUT  (64u << 10)
#define SERIAL_LINE 120

/* What a snapshot keeps. */
struct serial_state {
	uint8_t ier, lcr, mcr, scr, fcr, dll, dlm;
	uint8_t thr_empty; /* the THRE interrupt waits to be read */
	uint8_t overrun;
	uint8_t line; /* level of the interrupt line */
	uint8_t n_rx;
	uint8_t rx[SERIAL_FIFO];
};

struct serial {
	struct serial_state s;
	int irq_fd;
	pthread_mutex_t lock;
	struct loop *loop;
	struct loop_source in, out; /* out is watched only while something waits */
	int wake;		    /* eventfd: a vCPU made room for input or left output */
	struct loop_source waker;
	bool in_end; /* no more input */
	uint32_t out_head, out_len;
	uint64_t lost; /* bytes nobody read */
	uint32_t line_len;
	char line[SERIAL_LINE];	 /* as it is being written */
	char panic[SERIAL_LINE]; /* a kernel's last words, printable, or "" */
	uint8_t buf[SERIAL_OUT];
};

int serial_init(struct serial *s);
void serial_done(struct serial *s);
/* Nonblocking, different fds (dup a pty's), or -1; they stay the caller's. 0 or -errno. */
int serial_attach(struct serial *s, struct loop *l, int in, int out);
/* In the loop's thread: write what waits, as far as the fd takes it. */
void serial_flush(struct serial *s);
/* A vCPU's access to register reg (0..7). */
uint8_t serial_read(struct serial *s, uint16_t reg);
void serial_write(struct serial *s, uint16_t reg, uint8_t val);
/* Input as from the line; how many bytes there was room for. */
size_t serial_input(struct serial *s, const void *buf, size_t len);

#endif
