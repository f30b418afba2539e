// SPDX-License-Identifier: GPL-2.0-or-later
#include "runtime/migrate/offer.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static const char *const mode_names[] = {
	[VPS_MIGRATE_STOPPED] = "stopped",
	[VPS_MIGRATE_RESTART] = "restart",
	[VPS_MIGRATE_LIVE] = "live",
};

const char *vps_migrate_mode_name(enum vps_migrate_mode m)
{
	return (size_t)m < ARRAY_LEN(mode_names) && mode_names[m] ? mode_names[m] : "unknown";
}

void offer_done(struct offer *o)
{
	free(o->peer);
	free(o->kernel);
	free(o->arch);
	free(o->needs);
	free(o->seccomp);
	strv_free(o->image_as);
	strv_free(o->image_layers);
	spec_done(&o->spec);
	memset(o, 0, sizeof(*o));
}

void offer_to_json(const struct offer *o, struct json_out *out)
{
	jo_object(out, NULL);
	jo_u64(out, "version", OFFER_VERSION);
	jo_str(out, "mode", vps_migrate_mode_name(o->mode));
	jo_bool(out, "check", o->check);
	jo_str(out, "peer", o->peer);
	jo_str(out, "kernel", o->kernel);
	jo_str(out, "arch", o->arch);
	jo_bool(out, "first_boot_done", o->first_boot_done);
	jo_bool(out, "copied", o->copied);
	jo_bool(out, "blocks", o->blocks);
	jo_u64(out, "used", o->used);
	jo_u64(out, "entries", o->entries);
	jo_u64(out, "image_size", o->image_size);
	jo_strv(out, "image_as", o->image_as);
	jo_strv(out, "image_layers", o->image_layers);
	jo_u64(out, "memory", o->memory);
	if (o->needs)
		jo_str(out, "needs", o->needs);
	if (o->seccomp)
		jo_str(out, "seccomp", o->seccomp);
	spec_to_json(&o->spec, out, "spec");
	jo_end_object(out);
}

static int take_str(const struct json *j, const char *key, char **ret)
{
	return str_set(ret, json_str(json_get(j, key), NULL));
}

static int parse_mode(const char *s, enum vps_migrate_mode *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(mode_names); i++)
		if (mode_names[i] && str_eq(mode_names[i], s)) {
			*ret = (enum vps_migrate_mode)i;
			return 0;
		}
	return -EINVAL;
}

static int parse_offer(const struct json *j, struct offer *o, struct vps_err *err)
{
	uint64_t version = json_u64(json_get(j, "version"), 0);
	int r;

	if (version != OFFER_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the source speaks version %llu of the migration, this host %d: use the same vps on both",
				   (unsigned long long)version, OFFER_VERSION);
	if (parse_mode(json_str(json_get(j, "mode"), ""), &o->mode) < 0)
		return vps_err_set(err, VPS_EBADIMAGE, "offer: no such mode");
	o->check = json_bool(json_get(j, "check"), false);
	o->first_boot_done = json_bool(json_get(j, "first_boot_done"), false);
	o->copied = json_bool(json_get(j, "copied"), false);
	o->blocks = json_bool(json_get(j, "blocks"), false);
	o->used = json_u64(json_get(j, "used"), 0);
	o->entries = json_u64(json_get(j, "entries"), 0);
	o->image_size = json_u64(json_get(j, "image_size"), 0);
	o->memory = json_u64(json_get(j, "memory"), 0);
	r = take_str(j, "peer", &o->peer);
	r = r ?: take_str(j, "kernel", &o->kernel);
	r = r ?: take_str(j, "arch", &o->arch);
	r = r ?: take_str(j, "needs", &o->needs);
	r = r ?: take_str(j, "seccomp", &o->seccomp);
	r = r ?: json_strv(json_get(j, "image_as"), &o->image_as);
	r = r ?: json_strv(json_get(j, "image_layers"), &o->image_layers);
	if (r < 0)
		return vps_err_sys(err, r, "offer");
	r = spec_from_json(json_get(j, "spec"), &o->spec, err);
	r = r ?: spec_check(&o->spec, err);
	return r < 0 ? vps_err_wrap(err, r, "offer") : 0;
}

int offer_from_json(const struct json *j, struct offer *ret, struct vps_err *err)
{
	struct offer o = {0};
	int r;

	spec_init(&o.spec);
	r = parse_offer(j, &o, err);
	if (r < 0) {
		offer_done(&o);
		return r;
	}
	*ret = o;
	return 0;
}

void answer_done(struct answer *a)
{
	free(a->host);
	free(a->kernel);
	strv_free(a->problems);
	strv_free(a->notes);
	memset(a, 0, sizeof(*a));
}

void answer_to_json(const struct answer *a, struct json_out *out)
{
	jo_object(out, NULL);
	jo_u64(out, "version", OFFER_VERSION);
	jo_str(out, "host", a->host);
	jo_str(out, "kernel", a->kernel);
	jo_bool(out, "image", a->image);
	jo_u64(out, "image_layers", a->image_layers);
	jo_bool(out, "has", a->has);
	jo_bool(out, "running", a->running);
	jo_u64(out, "disk_free", a->disk_free);
	jo_u64(out, "memory_free", a->memory_free);
	jo_strv(out, "problems", a->problems);
	jo_strv(out, "notes", a->notes);
	jo_end_object(out);
}

int answer_from_json(const struct json *j, struct answer *ret, struct vps_err *err)
{
	struct answer a = {0};
	int r = take_str(j, "host", &a.host);

	r = r ?: take_str(j, "kernel", &a.kernel);
	a.image = json_bool(json_get(j, "image"), false);
	a.image_layers = json_u64(json_get(j, "image_layers"), 0);
	a.has = json_bool(json_get(j, "has"), false);
	a.running = json_bool(json_get(j, "running"), false);
	a.disk_free = json_u64(json_get(j, "disk_free"), 0);
	a.memory_free = json_u64(json_get(j, "memory_free"), 0);
	r = r ?: json_strv(json_get(j, "problems"), &a.problems);
	r = r ?: json_strv(json_get(j, "notes"), &a.notes);
	if (r < 0) {
		answer_done(&a);
		return vps_err_set(err, VPS_EBADIMAGE, "the destination's answer is unreadable");
	}
	*ret = a;
	return 0;
}
