# SPDX-License-Identifier: Apache-2.0
config_USES := model base
config_PKGS := jansson yaml-0.1
