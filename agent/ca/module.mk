# SPDX-License-Identifier: Apache-2.0
ca_USES := model base
ca_PKGS := libssl libcrypto jansson
