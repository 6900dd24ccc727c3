"""Adapters for the engines that people serve with: what they demand, and handing one over."""
