"""Task data: folders of labelled tasks, what makes, converts and audits them. Knows no model."""
