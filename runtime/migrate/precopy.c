/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/migrate/precopy.h"

#include "runtime/vps.h"

/* Bytes a second; at least 1. */
static uint64_t rate_of(uint64_t bytes, uint64_t ns)
{
	uint64_t us = ns / 1000 + 1;

	return bytes * 1000000 / us + 1;
}

static uint64_t time_us(uint64_t bytes, uint64_t rate)
{
	return bytes * 1000000 / rate;
}

/* What a part of the last round took beyond what its bytes explain. */
static uint64_t fixed_us(uint64_t ns, uint64_t bytes, uint64_t rate)
{
	uint64_t all = ns / 1000, explained = time_us(bytes, rate);

	return all > explained ? all - explained : 0;
}

/* What has changed by now: as much for each second as between the last two rounds. */
static uint64_t delta(const struct precopy *p)
{
	uint64_t rate, changed;

	if (p->n < 2)
		return p->total;
	rate = rate_of(p->last.bytes, p->last.began - p->before.began);
	changed = rate / 1000 * ((p->last.sent - p->last.began) / 1000000);
	return changed < p->total ? changed : p->total;
}

bool precopy_go_on(struct precopy *p, const struct precopy_round *r)
{
	uint64_t bytes, bytes_us;

	p->before = p->last;
	p->last = *r;
	if (p->n++ == 0) {
		p->total = r->bytes;
		p->restore_us = p->mapped ? 0 : (r->written - r->began) / 1000;
	}
	if (r->bytes >= p->largest) {
		p->largest = r->bytes;
		p->write_rate = rate_of(r->bytes, r->written - r->began);
		p->send_rate = rate_of(r->bytes, r->sent - r->written);
	}
	bytes = delta(p);
	bytes_us = time_us(bytes, p->write_rate) + time_us(bytes, p->send_rate);
	p->predicted_us = p->restore_us + bytes_us + fixed_us(r->written - r->began, r->bytes, p->write_rate) +
			  fixed_us(r->sent - r->written, r->bytes, p->send_rate);
	p->written += r->bytes;
	if (p->predicted_us <= p->downtime_us || p->n >= VPS_MIGRATE_ROUNDS || p->written > p->total + p->total / 2)
		return false;
	if (p->n == 1)
		return true;
	/* what is fixed becomes no less by rounds */
	return r->bytes < p->before.bytes / 10 * 9 && bytes_us > p->downtime_us / 20;
}
