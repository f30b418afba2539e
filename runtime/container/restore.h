/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies in a checkpoint of a container beside CRIU's images: checkpoint.c writes it, restore.c reads it. */
#ifndef VPS_RUNTIME_RESTORE_H
#define VPS_RUNTIME_RESTORE_H

#include "runtime/container/container.h"

#define CHECKPOINT_CONTAINER	     "container.json"
#define CHECKPOINT_CONTAINER_VERSION 1
#define CHECKPOINT_DEV		     "dev.tar"
#define CHECKPOINT_LOG		     "dump.log"
#define RESTORE_LOG		     "restore.log"

#endif
