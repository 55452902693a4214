# SPDX-License-Identifier: Apache-2.0
daemon_USES := control telemetry ca link kernel compile source config model base
