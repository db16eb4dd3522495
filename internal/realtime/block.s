// Functions without a body, as go:linkname has them, need a file of assembly in their package.
