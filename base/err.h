/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors. A fallible function returns 0 or a positive result, or a negative
 * code; where a human will want words, the caller passes a struct vps_err.
 *
 * Codes below 1000 are errno values. Codes from 1000 up are ours and say what
 * the *operator* ran into; cli/ turns them into the exit codes of vps(1).
 */
#ifndef VPS_BASE_ERR_H
#define VPS_BASE_ERR_H

#include <stdarg.h>

enum vps_code {
	VPS_ENOVPS = 1000,  /* no such VPS */
	VPS_ENOIMAGE,	    /* no such image */
	VPS_EEXISTS,	    /* the name, id, address or port is taken */
	VPS_ELOCKED,	    /* another command holds the lock */
	VPS_ESTATE,	    /* wrong state: not running, already running, paused */
	VPS_EUSAGE,	    /* bad option or value */
	VPS_EUNSUPPORTED,   /* this host cannot do it; the message says why and what helps */
	VPS_ERESOURCE,	    /* out of addresses, ids, disk, memory */
	VPS_EBADIMAGE,	    /* image broken, hostile or over a cap */
	VPS_EDIGEST,	    /* content does not match its digest */
	VPS_ENET,	    /* registry or mirror out of reach, TLS refused */
	VPS_EAUTH,	    /* registry says no */
	VPS_ETIMEDOUT,	    /* a deadline passed */
	VPS_EEXEC,	    /* the command inside could not be started */
	VPS_ECONF,	    /* vps.conf, profile or spec.json is wrong */
	VPS_EINTERRUPTED,   /* the operator interrupted it; the state is clean */
};

/* Fixed size, so that a child can send it through a pipe in one atomic write. */
struct vps_err {
	int code; /* 0: none; else errno or enum vps_code, positive */
	char msg[508];
};

/* All return a negative code, so that `return vps_err_set(...)` reads well. err may be
 * NULL. The first error wins: set and sys leave an error that is already there and
 * return its code. A message that does not fit is cut at a whole UTF-8 character. */

/* Set code (positive) and message. Returns -code. */
int vps_err_set(struct vps_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Set from a negative code r: "<fmt>: <its words>". Returns r. */
int vps_err_sys(struct vps_err *err, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Prefix what is there: "<fmt>: <message>", keeping its code. With nothing there, like
 * vps_err_sys. Returns r. Once a layer. */
int vps_err_wrap(struct vps_err *err, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void vps_err_clear(struct vps_err *err);
/* Words for an errno or enum vps_code, positive or negative; never NULL. */
const char *vps_code_str(int code);

#endif
