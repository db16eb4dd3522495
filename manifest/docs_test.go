package manifest

import "flag"

var update = flag.Bool("update", false, "write the golden files; commit the difference only if you can explain it")
