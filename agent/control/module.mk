# SPDX-License-Identifier: Apache-2.0
control_USES := compile source config model base
control_PKGS := libmicrohttpd jansson
