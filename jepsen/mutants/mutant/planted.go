package mutant

// planted names the bugs of this build. The overlay that applies the patches has a file with
// their names in place of this one.
var planted []string
