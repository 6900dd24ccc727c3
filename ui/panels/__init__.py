"""One panel a file: each lays out components and returns a frozen dataclass of them."""
