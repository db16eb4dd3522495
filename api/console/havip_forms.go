package console

import (
	"cmp"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"havip-cluster/api"
)

// dialog is the form for a new HAVIP, as the cloud's own console has it, with what was filled in.
type dialog struct {
	Name, Description   string
	VPC, Subnet         string
	Mode, IP            string // Mode: auto or manual
	RangeType           string // cvm or eni
	Members             map[string]bool
	NoLimit             bool
	EIP                 string
	VPCs                []string
	Subnets             []api.Subnet // of the VPC
	Chosen              *subnetInfo
	Instances, ENIs     []member
	ReuseNow, ForceTake bool
	Quota               quota
}

// quota is what the rules of the network leave for one HAVIP more; docs/rules.md.
type quota struct {
	Rules       string // whose: lan or tencent
	Used, Most  int    // HAVIPs in the VPC; Most 0: no bound
	Left        int    // of Most
	Members     int    // at most in one range
	ENIAdvice   int    // HAVIPs that one ENI should own at most; 0: no advice
	AddressLeft int    // addresses of the subnet that may still be given to a HAVIP; -1: more than can be said
}

// subnetInfo is what a person has to know to choose an address by hand.
type subnetInfo struct {
	api.Subnet
	First, Last string
	Reserved    []string // with the reason
	Used        []string // with who uses it; the first usedMax
	UsedCount   int
	Usable      string
}

// member is what may be in a range.
type member struct {
	ID, Says string
	Checked  bool
}

// usedMax is how many used addresses the form names.
const usedMax = 64

func newHAVIPPage(v *visit) (*page, error) {
	d, err := v.dialog(v.r.URL.Query())
	if err != nil {
		return nil, err
	}
	return &page{Title: "New HAVIP", Tab: "havips", Name: "havip-new", Data: d, Form: true}, nil
}

// dialog is the form with some fields filled in, and what there is to choose.
func (v *visit) dialog(in url.Values) (*dialog, error) {
	d := &dialog{
		Name: in.Get("name"), Description: in.Get("description"), VPC: in.Get("vpc"), Subnet: in.Get("subnet"), Mode: cmp.Or(in.Get("mode"), "auto"), IP: in.Get("ip"),
		RangeType: cmp.Or(in.Get("range_type"), "cvm"), Members: map[string]bool{}, NoLimit: in.Get("limit") == "no", EIP: in.Get("eip"),
		ReuseNow: in.Get("reuse_now") == "yes", ForceTake: in.Get("force") == "yes",
	}
	for _, m := range append(in["cvm"], in["eni"]...) {
		d.Members[m] = true
	}
	var subnets []api.Subnet
	var enis []api.ENI
	var cluster api.Cluster
	if err := errors.Join(v.get(v.ctx, "/v1/subnets", nil, &subnets), v.get(v.ctx, "/v1/enis", nil, &enis), v.get(v.ctx, "/v1/cluster", nil, &cluster)); err != nil {
		return nil, err
	}
	for _, s := range subnets {
		if !slices.Contains(d.VPCs, s.VPC) {
			d.VPCs = append(d.VPCs, s.VPC)
		}
	}
	slices.Sort(d.VPCs)
	if !slices.Contains(d.VPCs, d.VPC) && len(d.VPCs) > 0 {
		d.VPC = d.VPCs[0]
		if i := slices.IndexFunc(subnets, func(s api.Subnet) bool { return s.Name == d.Subnet }); i >= 0 {
			d.VPC = subnets[i].VPC
		}
	}
	for _, s := range subnets {
		if s.VPC == d.VPC {
			d.Subnets = append(d.Subnets, s)
		}
	}
	if !slices.ContainsFunc(d.Subnets, func(s api.Subnet) bool { return s.Name == d.Subnet }) && len(d.Subnets) > 0 {
		d.Subnet = d.Subnets[0].Name
		if i := slices.IndexFunc(d.Subnets, func(s api.Subnet) bool { return inSubnet(enis, s.Name) }); i >= 0 {
			d.Subnet = d.Subnets[i].Name // where somebody could own it
		}
	}
	for _, s := range d.Subnets {
		if s.Name == d.Subnet {
			info, err := v.subnetInfo(s, enis)
			if err != nil {
				return nil, err
			}
			d.Chosen = info
		}
	}
	d.candidates(enis)
	d.Quota = quotaOf(cluster.Provider, d)
	return d, nil
}

// quotaOf is what the rules leave in the chosen VPC and subnet. The API counts again when the HAVIP is made.
func quotaOf(rules api.Provider, d *dialog) quota {
	q := quota{Rules: rules.Name, Most: rules.HAVIPsPerVPC, Members: rules.RangeMembers, ENIAdvice: rules.HAVIPsPerENI, AddressLeft: -1}
	for _, s := range d.Subnets {
		q.Used += s.HAVIPs
	}
	q.Left = max(0, q.Most-q.Used)
	if d.Chosen != nil {
		q.AddressLeft = d.Chosen.left()
	}
	return q
}

// left is how many addresses of an IPv4 subnet nobody uses and nothing keeps back, -1 for IPv6. It does not know of those in
// quarantine.
func (out *subnetInfo) left() int {
	prefix, err := netip.ParsePrefix(out.CIDR)
	if err != nil || !prefix.Addr().Is4() {
		return -1
	}
	return max(0, 1<<(32-prefix.Bits())-len(out.Reserved)-out.UsedCount)
}

// inSubnet reports whether any ENI is in a subnet.
func inSubnet(enis []api.ENI, subnet string) bool {
	return slices.ContainsFunc(enis, func(e api.ENI) bool { return text(e.Subnet) == subnet })
}

// candidates are the instances and the ENIs of the chosen subnet. A primary ENI comes in with its
// instance alone, as in the cloud.
func (d *dialog) candidates(enis []api.ENI) {
	devices := map[string][]string{}
	for _, e := range enis {
		if e.Subnet == nil || *e.Subnet != d.Subnet || e.Detached {
			continue
		}
		devices[e.Node] = append(devices[e.Node], e.Device)
		if !e.Primary {
			d.ENIs = append(d.ENIs, member{e.ID, e.MAC + ", " + strings.Join(e.Addresses, ", "), d.Members[e.ID]})
		}
	}
	for _, node := range slices.Sorted(maps.Keys(devices)) {
		d.Instances = append(d.Instances, member{node, "by " + strings.Join(devices[node], ", "), d.Members[node]})
	}
}

// subnetInfo tells which addresses of a subnet may be chosen.
func (v *visit) subnetInfo(s api.Subnet, enis []api.ENI) (*subnetInfo, error) {
	var havips []api.HAVIP
	head, err := v.read(v.ctx, "/v1/havips", url.Values{"subnet": {s.Name}, "limit": {strconv.Itoa(usedMax)}}, &havips)
	if err != nil {
		return nil, err
	}
	out := &subnetInfo{Subnet: s}
	prefix, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return out, nil // nothing to say about it; the API judges the address
	}
	out.reserve(prefix.Masked(), s)
	for _, e := range enis {
		for _, text := range e.Addresses {
			if a, err := netip.ParsePrefix(text); err == nil && prefix.Contains(a.Addr()) {
				out.Used = append(out.Used, a.Addr().String()+" ("+e.ID+")")
			}
		}
	}
	out.UsedCount = len(out.Used)
	total, _ := strconv.Atoi(head.Get("X-Havip-Total"))
	out.UsedCount += total
	for _, h := range havips {
		out.Used = append(out.Used, h.IP+" (HAVIP "+h.Name+")")
	}
	out.Used = out.Used[:min(usedMax, len(out.Used))]
	return out, nil
}

// reserve names what is kept back: of IPv4 the network, the first host and the broadcast address, as in the cloud.
func (out *subnetInfo) reserve(prefix netip.Prefix, s api.Subnet) {
	first := prefix.Addr()
	out.Reserved = append(out.Reserved, first.String()+" (network)", first.Next().String()+" (first host)")
	out.First = first.Next().Next().String()
	if prefix.Addr().Is4() {
		last := lastOf(prefix)
		out.Reserved = append(out.Reserved, last.String()+" (broadcast)")
		out.Last = last.Prev().String()
	} else {
		out.Last = "the end of " + prefix.String()
	}
	if g := text(s.Gateway); g != "" && g != first.Next().String() {
		out.Reserved = append(out.Reserved, g+" (gateway)")
	}
	for _, r := range s.Reserved {
		out.Reserved = append(out.Reserved, r+" (reserved by an operator)")
	}
}

// lastOf is the last address of an IPv4 prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}

func createHAVIP(v *visit) (outcome, error) {
	f := v.r.PostForm
	d, err := v.dialog(f)
	if err != nil {
		return outcome{To: "/havips"}, err
	}
	form := &page{Title: "New HAVIP", Tab: "havips", Name: "havip-new", Data: d, Form: true}
	spec := api.HAVIPSpec{Name: d.Name, Subnet: d.Subnet, VPC: d.VPC, Range: rangeFrom(f), EIP: strings.TrimSpace(d.EIP), ReuseNow: d.ReuseNow, Force: d.ForceTake}
	if d.Mode == "manual" {
		if spec.IP = strings.TrimSpace(d.IP); spec.IP == "" {
			return outcome{Page: form}, problemf(http.StatusBadRequest, "A manual address is asked for, and none is given: type one of %s, or choose automatic.", d.span())
		}
	}
	if d.Description != "" {
		spec.Description = &d.Description
	}
	var made api.HAVIP
	err = v.post(v.ctx, "/v1/havips", spec, &made, v.key)
	return outcome{To: pathTo("havips", made.ID), Did: "created", Page: onlyIf(err, form)}, err
}

func (d *dialog) span() string {
	if d.Chosen == nil {
		return "the subnet"
	}
	return d.Chosen.First + " to " + d.Chosen.Last
}

// onlyIf is the form again when something was refused.
func onlyIf(err error, form *page) *page {
	if err == nil {
		return nil
	}
	return form
}

// rangeFrom reads a range from a form: the members of the chosen type, and the limit, which is on unless
// somebody switched it off.
func rangeFrom(f url.Values) *api.RangeSpec {
	limit := f.Get("limit") != "no"
	out := &api.RangeSpec{Limit: &limit, Members: []string{}}
	kind := f.Get("range_type")
	if members := f[kind]; (kind == "cvm" || kind == "eni") && len(members) > 0 {
		out.Type, out.Members = kind, members
	}
	return out
}

// editData is the form that changes a HAVIP.
type editData struct {
	api.HAVIP
	Instances, ENIs []member
	RangeType       string
	Prefer          string
	Evict           bool
	Was             string // see shownHAVIP
}

func editPage(v *visit) (*page, error) {
	d := editData{}
	var err error
	if d.HAVIP, err = v.one(); err != nil {
		return nil, err
	}
	d.Was = asText(shownOf(d.HAVIP))
	return v.editForm(&d)
}

func (v *visit) editForm(d *editData) (*page, error) {
	var enis []api.ENI
	if err := v.get(v.ctx, "/v1/enis", nil, &enis); err != nil {
		return nil, err
	}
	choose := dialog{Subnet: d.Subnet, Members: map[string]bool{}}
	for _, m := range d.Range.Members {
		choose.Members[m] = true
	}
	choose.candidates(enis)
	d.Instances, d.ENIs, d.RangeType = choose.Instances, choose.ENIs, cmp.Or(d.Range.Type, "cvm")
	// A member that the inventory does not show now stays, unless somebody takes it out.
	for _, m := range d.Range.Members {
		has := func(o member) bool { return o.ID == m }
		if d.RangeType == "cvm" && !slices.ContainsFunc(d.Instances, has) {
			d.Instances = append(d.Instances, member{m, "not seen in this subnet now", true})
		}
		if d.RangeType == "eni" && !slices.ContainsFunc(d.ENIs, has) {
			d.ENIs = append(d.ENIs, member{m, "not seen in this subnet now", true})
		}
	}
	if d.Prefer == "" {
		d.Prefer = scoresText(d.View.Prefer)
	}
	return &page{Title: "Change " + d.Name, Tab: "havips", Name: "havip-edit", Data: *d, Form: true}, nil
}

// scoresText is a list of NODE=SCORE, one a line.
func scoresText(scores map[string]int) string {
	var out []string
	for _, who := range slices.Sorted(maps.Keys(scores)) {
		out = append(out, who+"="+strconv.Itoa(scores[who]))
	}
	return strings.Join(out, "\n")
}

// scoresFrom reads it.
func scoresFrom(text string) (map[string]int, error) {
	out := map[string]int{}
	for _, word := range strings.Fields(strings.ReplaceAll(text, ",", " ")) {
		who, score, ok := strings.Cut(word, "=")
		n, err := strconv.Atoi(score)
		if !ok || err != nil || who == "" {
			return nil, problemf(http.StatusBadRequest, "%q is not a preference; write NODE=SCORE or ENI=SCORE, one a line", clip(word))
		}
		out[who] = n
	}
	return out, nil
}

func editHAVIP(v *visit) (outcome, error) {
	f := v.r.PostForm
	old, err := v.one()
	if err != nil {
		return outcome{To: "/havips"}, err
	}
	shown := was(f.Get("was"), shownOf(old))
	body, err := changeFrom(shown.over(old), f)
	if err == nil {
		err = contested(shown, shownOf(old), body)
	}
	if err == nil {
		err = v.send(v.ctx, http.MethodPatch, pathTo("v1", "havips", old.ID), nil, body, nil, v.key)
	}
	if err == nil {
		return outcome{To: pathTo("havips", old.ID), Did: "changed"}, nil
	}
	d := editData{HAVIP: old, Prefer: f.Get("prefer"), Evict: f.Get("evict") == "yes", Was: asText(shown)}
	d.Name, d.Description, d.Failback = f.Get("name"), f.Get("description"), f.Get("failback")
	if r := rangeFrom(f); r != nil {
		d.Range = api.Range{Type: f.Get("range_type"), Members: r.Members, Limit: *r.Limit}
	}
	form, formErr := v.editForm(&d)
	if formErr != nil {
		return outcome{To: "/havips"}, err
	}
	return outcome{Page: form}, err
}

// changeFrom is what a form says otherwise than it was shown: what is the same is not said, so that who may
// change one thing alone may use the form.
func changeFrom(old api.HAVIP, f url.Values) (api.HAVIPChange, error) {
	out := api.HAVIPChange{Evict: f.Get("evict") == "yes"}
	if name := f.Get("name"); name != old.Name {
		out.Name = &name
	}
	if text := f.Get("description"); text != old.Description {
		out.Description = &text
	}
	if text := strings.TrimSpace(f.Get("failback")); text != old.Failback {
		out.Failback = &text
	}
	for _, n := range []struct {
		name string
		old  int
		to   **int
	}{{"priority", old.Priority, &out.Priority}, {"stickiness", old.Stickiness, &out.Stickiness}, {"weight", old.Weight, &out.Weight}, {"fail_limit", old.FailLimit, &out.FailLimit}} {
		got, err := strconv.Atoi(strings.TrimSpace(f.Get(n.name)))
		if err != nil {
			return out, problemf(http.StatusBadRequest, "%s %q is not a whole number", n.name, clip(f.Get(n.name)))
		}
		if got != n.old {
			*n.to = &got
		}
	}
	prefer, err := scoresFrom(f.Get("prefer"))
	if err != nil {
		return out, err
	}
	if !maps.Equal(prefer, old.View.Prefer) {
		out.Prefer = &prefer
	}
	for _, b := range []struct {
		name string
		old  bool
		to   **bool
	}{{"managed", old.Managed, &out.Managed}, {"maintenance", old.Maintenance, &out.Maintenance}} {
		if got := f.Get(b.name) == "yes"; got != b.old {
			*b.to = &got
		}
	}
	r := rangeFrom(f)
	if *r.Limit != old.Range.Limit || r.Type != old.Range.Type && len(r.Members) > 0 || !sameSet(r.Members, old.Range.Members) {
		out.Range = r
	}
	return out, nil
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
