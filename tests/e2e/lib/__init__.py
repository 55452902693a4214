# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests and the demo share: nodes and pods as network namespaces, agents, traffic."""
