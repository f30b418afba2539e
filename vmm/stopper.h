/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Asks the guest to power itself off: its agent first, and the power button when that does not
 * promise to do it in time. */
#ifndef VPS_VMM_STOPPER_H
#define VPS_VMM_STOPPER_H

#include "vmm/vm.h"
#include "vmm/vsock.h"

struct stopper {
	struct vm *vm;
	struct vsock *vsock;
	struct loop *loop;
	struct loop_source agent, timer;
	uint8_t got[24];
	uint32_t n;
};

int stopper_init(struct stopper *s, struct vm *vm, struct vsock *v, struct loop *l);
void stopper_done(struct stopper *s);
/* In the loop's thread. While one request waits, another adds nothing. */
void stopper_ask(struct stopper *s);

#endif
