# SPDX-License-Identifier: Apache-2.0
model_USES := base
model_LDLIBS := -lm
