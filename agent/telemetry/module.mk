# SPDX-License-Identifier: Apache-2.0
telemetry_USES := link model base
telemetry_PKGS := libprotobuf-c jansson
telemetry_GEN := proto
