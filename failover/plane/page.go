package plane

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"havip-cluster/failover/lease"
)

// Page is memory that agent and plane share. Each word has one writer, but for the deadline. What is read is as old as the
// last store: nothing waits for anybody.
type Page struct {
	memory []byte
}

// The words of the page, 8 bytes each.
const (
	wordAuthorised = iota // written by the agent: until when the plane may renew
	wordSession           // written by the plane
	wordDeadline          // written by the plane, and moved on by the kernel's program; 0 while session changes
	wordSuspended         // written by the agent: how often the voters were suspended
)

const pageBytes = 4096

// newPageFile makes the file of a page.
func newPageFile() (*os.File, error) {
	fd, err := unix.MemfdCreate("havip-lease", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "lease page")
	if err := unix.Ftruncate(fd, pageBytes); err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("ftruncate", err)
	}
	// Nobody makes it shorter: a read beyond its end would kill the reader (SIGBUS).
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		_ = f.Close()
		return nil, os.NewSyscallError("fcntl", err)
	}
	return f, nil
}

// OpenPage maps the page of a file, which may be closed afterwards: one of this package, or a map of eBPF, which
// the kernel's program reads as well. That has no type of file, and its size is fixed.
func OpenPage(f *os.File) (*Page, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Size != pageBytes && st.Mode&unix.S_IFMT != 0 {
		return nil, fmt.Errorf("plane: %s is not the page of a lease", f.Name())
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, pageBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	return &Page{memory}, nil
}

// Places in the page, in words of 8 bytes. Who uses them elsewhere has them from here.
const (
	SuspendedAt = wordSuspended
	DeadlineAt  = wordDeadline
)

func (p *Page) word(i int) *int64 { return (*int64)(unsafe.Pointer(&p.memory[8*i])) }

// Authorise lets the plane renew until an instant. The agent's.
func (p *Page) Authorise(until lease.Instant) {
	atomic.StoreInt64(p.word(wordAuthorised), int64(until))
}

// Authorised returns until when the plane may renew.
func (p *Page) Authorised() lease.Instant {
	return lease.Instant(atomic.LoadInt64(p.word(wordAuthorised)))
}

// Suspend has the plane promise and count by no voters, until it is told of those that are sure as of now.
// It counts from the next message on that the plane takes. The agent's.
func (p *Page) Suspend() { atomic.AddInt64(p.word(wordSuspended), 1) }

// Suspended is how often Suspend was called.
func (p *Page) Suspended() int64 { return atomic.LoadInt64(p.word(wordSuspended)) }

// begin stores another session. The plane's, with put never at once.
func (p *Page) begin(session uint64, deadline lease.Instant) {
	p.put(0)
	atomic.StoreInt64(p.word(wordSession), int64(session))
	p.put(deadline)
}

// put stores the present session's deadline.
func (p *Page) put(deadline lease.Instant) {
	atomic.StoreInt64(p.word(wordDeadline), int64(deadline))
}

// extend moves the present session's deadline on; not back, and not from 0.
func (p *Page) extend(deadline lease.Instant) {
	for at := p.word(wordDeadline); ; {
		was := atomic.LoadInt64(at)
		if was == 0 || was >= int64(deadline) || atomic.CompareAndSwapInt64(at, was, int64(deadline)) {
			return
		}
	}
}

// Lease returns the session and its deadline, which may have passed.
func (p *Page) Lease() (session uint64, deadline lease.Instant) {
	for {
		before := atomic.LoadInt64(p.word(wordSession))
		d := atomic.LoadInt64(p.word(wordDeadline))
		if atomic.LoadInt64(p.word(wordSession)) == before {
			return uint64(before), lease.Instant(d)
		}
	}
}
