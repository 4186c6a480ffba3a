/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/*
 * The programs. They are fixed: policy is in the maps only.
 *
 * from_workload and to_workload guard a workload's host-side interface, from_network and to_network an interface of the
 * host. What one of them lets pass goes on to other programs on the interface.
 */
#include "policy.h"
#include "ask.h"
#include "defer.h"
#include "route.h"
#include "to_host.h"
#include "from_workload.h"
#include "ask_sender.h"
#include "to_workload.h"
#include "from_network.h"
#include "to_network.h"
#include "to_node.h"
#include "probe.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";
