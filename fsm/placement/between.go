package placement

// PlanBetween is Plan for changes that another state has in it already: before says who
// owns what, after is what is to be decided about.
func PlanBetween(before, after Problem) Result { return plan(before, after) }
