/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/serial.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

/* linux/serial_reg.h: registers by offset; some share one, told apart by direction and DLAB. */

int serial_init(struct serial *s)
{
	autoclose int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	autoclose int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (irq < 0 || wake < 0)
		return -errno;
	memset(s, 0, sizeof(*s));
	s->s.dll = 1; /* 115200 */
	s->s.thr_empty = 1;
	s->irq_fd = take_fd(irq);
	s->wake = take_fd(wake);
	s->in.fd = s->out.fd = -1;
	pthread_mutex_init(&s->lock, NULL);
	return 0;
}

void serial_done(struct serial *s)
{
	if (!s || !s->irq_fd)
		return;
	if (s->loop) {
		loop_remove(s->loop, &s->in);
		loop_remove(s->loop, &s->out);
		loop_remove(s->loop, &s->waker);
	}
	close_fd(&s->irq_fd);
	close_fd(&s->wake);
	pthread_mutex_destroy(&s->lock);
	s->irq_fd = 0;
}

static uint8_t iir(const struct serial *s)
{
	if (s->s.overrun && (s->s.ier & UART_IER_RLSI))
		return UART_IIR_RLSI;
	if (s->s.n_rx && (s->s.ier & UART_IER_RDI))
		return UART_IIR_RDI;
	if (s->s.thr_empty && (s->s.ier & UART_IER_THRI))
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/* The line is edge-triggered: an edge when a reason appears where there was none. */
static void update_line(struct serial *s)
{
	bool high = iir(s) != UART_IIR_NO_INT;

	if (high && !s->s.line)
		eventfd_write(s->irq_fd, 1);
	s->s.line = high;
}

/* A kernel that panics says so on its console before it resets the machine. */
static void watch_line(struct serial *s, uint8_t c)
{
	if (c != '\n') {
		if (s->line_len < SERIAL_LINE - 1 && c != '\r')
			s->line[s->line_len++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
		return;
	}
	s->line[s->line_len] = 0;
	s->line_len = 0;

	const char *p = strstr(s->line, "Kernel panic - not syncing");

	if (p && !s->panic[0])
		strcpy(s->panic, p);
}

static void put(struct serial *s, uint8_t c)
{
	watch_line(s, c);
	if (s->out_len == SERIAL_OUT) {
		s->out_head = (s->out_head + 1) % SERIAL_OUT;
		s->out_len--;
		s->lost++;
	}
	s->buf[(s->out_head + s->out_len++) % SERIAL_OUT] = c;
	if (s->out_len == 1)
		eventfd_write(s->wake, 1);
}

size_t serial_input(struct serial *s, const void *buf, size_t len)
{
	pthread_mutex_lock(&s->lock);

	size_t room = (size_t)(SERIAL_FIFO - s->s.n_rx), n = len < room ? len : room;

	memcpy(s->s.rx + s->s.n_rx, buf, n);
	s->s.n_rx += (uint8_t)n;
	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return n;
}

static uint8_t read_rx(struct serial *s)
{
	if (!s->s.n_rx)
		return 0;

	uint8_t c = s->s.rx[0];

	memmove(s->s.rx, s->s.rx + 1, --s->s.n_rx);
	if (!s->s.n_rx)
		eventfd_write(s->wake, 1);
	/* More input is a new reason: the driver may read one byte an interrupt. */
	s->s.line = 0;
	return c;
}

static uint8_t lsr(struct serial *s)
{
	uint8_t v = UART_LSR_THRE | UART_LSR_TEMT;

	if (s->s.n_rx)
		v |= UART_LSR_DR;
	if (s->s.overrun)
		v |= UART_LSR_OE;
	s->s.overrun = 0;
	return v;
}

static uint8_t read_reg(struct serial *s, uint16_t reg)
{
	bool dlab = s->s.lcr & UART_LCR_DLAB;
	uint8_t v;

	switch (reg) {
	case UART_RX:
		return dlab ? s->s.dll : read_rx(s);
	case UART_IER:
		return dlab ? s->s.dlm : s->s.ier;
	case UART_IIR:
		v = iir(s);
		if (v == UART_IIR_THRI)
			s->s.thr_empty = 0; /* told */
		return v | (s->s.fcr & UART_FCR_ENABLE_FIFO ? 0xc0 : 0);
	case UART_LCR:
		return s->s.lcr;
	case UART_MCR:
		return s->s.mcr;
	case UART_LSR:
		return lsr(s);
	case UART_MSR:
		/* The other side is always there; in loopback the outputs come back. */
		if (s->s.mcr & UART_MCR_LOOP)
			return (uint8_t)((s->s.mcr & 0x0c) << 4 | (s->s.mcr & 2) << 3 |
					 (s->s.mcr & 1) << 5);
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	case UART_SCR:
		return s->s.scr;
	}
	return 0xff;
}

static void write_tx(struct serial *s, uint8_t val)
{
	if (!(s->s.mcr & UART_MCR_LOOP))
		put(s, val);
	else if (s->s.n_rx < SERIAL_FIFO)
		s->s.rx[s->s.n_rx++] = val;
	else
		s->s.overrun = 1;
	/* Sent at once: empty again, which is a new event. */
	s->s.thr_empty = 1;
	s->s.line = 0;
}

static void write_reg(struct serial *s, uint16_t reg, uint8_t val)
{
	bool dlab = s->s.lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->s.dll = val;
		else
			write_tx(s, val);
		break;
	case UART_IER:
		if (dlab) {
			s->s.dlm = val;
			break;
		}
		/* Asking for THRE while it is empty is an interrupt. */
		if ((val & ~s->s.ier) & UART_IER_THRI)
			s->s.thr_empty = 1;
		s->s.ier = val & 0x0f;
		break;
	case UART_FCR:
		s->s.fcr = val & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
		if (val & UART_FCR_CLEAR_RCVR) {
			s->s.n_rx = 0;
			eventfd_write(s->wake, 1);
		}
		break;
	case UART_LCR:
		s->s.lcr = val;
		break;
	case UART_MCR:
		s->s.mcr = val & 0x1f;
		break;
	case UART_SCR:
		s->s.scr = val;
		break;
	}
}

uint8_t serial_read(struct serial *s, uint16_t reg)
{
	pthread_mutex_lock(&s->lock);

	uint8_t v = read_reg(s, reg);

	update_line(s);
	pthread_mutex_unlock(&s->lock);
	return v;
}

void serial_write(struct serial *s, uint16_t reg, uint8_t val)
{
	pthread_mutex_lock(&s->lock);
	write_reg(s, reg, val);
	update_line(s);
	pthread_mutex_unlock(&s->lock);
}

/* The fd is nonblocking, so the lock is held for a moment only. */
void serial_flush(struct serial *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->out_len && s->out.fd >= 0) {
		uint32_t part = SERIAL_OUT - s->out_head;

		if (part > s->out_len)
			part = s->out_len;

		ssize_t n = write(s->out.fd, s->buf + s->out_head, part);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) /* nobody will ever read it */
			n = part;
		s->out_head = (s->out_head + (uint32_t)n) % SERIAL_OUT;
		s->out_len -= (uint32_t)n;
	}

	bool waits = s->out_len;

	pthread_mutex_unlock(&s->lock);
	if (s->out.fd < 0)
		return;
	if (waits)
		loop_watch(s->loop, &s->out, EPOLLOUT);
	else
		loop_remove(s->loop, &s->out);
}

static void on_out(struct loop_source *src, uint32_t events)
{
	serial_flush(container_of(src, struct serial, out));
}

static size_t room(struct serial *s)
{
	pthread_mutex_lock(&s->lock);

	size_t n = (size_t)(SERIAL_FIFO - s->s.n_rx);

	pthread_mutex_unlock(&s->lock);
	return n;
}

static void on_in(struct loop_source *src, uint32_t events)
{
	struct serial *s = container_of(src, struct serial, in);
	uint8_t buf[SERIAL_FIFO];
	size_t want = room(s);

	if (!want) {
		loop_remove(s->loop, src); /* until the guest has read */
		return;
	}

	ssize_t n = read(src->fd, buf, want);

	if (n > 0) {
		serial_input(s, buf, (size_t)n);
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		s->in_end = true;
		loop_remove(s->loop, src);
	}
}

static void on_wake(struct loop_source *src, uint32_t events)
{
	struct serial *s = container_of(src, struct serial, waker);
	eventfd_t n;

	eventfd_read(src->fd, &n);
	if (s->in.fd >= 0 && !s->in_end)
		loop_watch(s->loop, &s->in, EPOLLIN);
	serial_flush(s);
}

int serial_attach(struct serial *s, struct loop *l, int in, int out)
{
	s->loop = l;
	s->in = (struct loop_source){.fd = in, .fn = on_in};
	s->out = (struct loop_source){.fd = out, .fn = on_out};
	s->waker = (struct loop_source){.fd = s->wake, .fn = on_wake};

	int r = loop_watch(l, &s->waker, EPOLLIN);

	if (r == 0)
		eventfd_write(s->wake, 1);
	return r;
}
