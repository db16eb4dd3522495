// Package tencent speaks with Tencent Cloud about HAVIPs: the VPC API, version 2017-03-12, signed by the
// vendor's own client (TC3-HMAC-SHA256), and the metadata service of the host.
//
// Only the vendor's `common` module is linked; the actions and their fields are own structs here. Everything is
// bounded: requests a second, tries, time, pages, bytes. A Client may be used by several goroutines.
package tencent

import "time"

// Limits of one Client.
const (
	service = "vpc"
	version = "2017-03-12"

	defaultEndpoint = "https://vpc.tencentcloudapi.com"
	defaultMetadata = "http://metadata.tencentyun.com"

	// callRate is below the 20 requests a second that each action documents; callBurst are let through at once.
	callRate  = 10
	callBurst = 5
	// callTimeout bounds one try, callTries the tries of a call that may be repeated.
	callTimeout = 5 * time.Second
	callTries   = 3
	// backOff is the pause before the second try; it doubles up to backOffMax, and each is shortened by up to a
	// half at random.
	backOff    = 500 * time.Millisecond
	backOffMax = 4 * time.Second
	// answerMax bounds the body of one answer, in bytes.
	answerMax = 4 << 20

	// breakAfter calls in a row without an answer of the cloud open the circuit for breakFirst, which doubles up
	// to breakMax with each call that fails after it.
	breakAfter = 3
	breakFirst = 5 * time.Second
	breakMax   = 30 * time.Second

	pageSize = 100 // the API's highest Limit
	// pagesMax bounds a listing: 5,000 HAVIPs, or ENIs, of a VPC.
	pagesMax   = 50
	membersMax = 10 // of HaVipAssociationSet in one call
	nameMax    = 60 // characters of HaVipName

	// taskPoll is the pause between two looks at what the cloud does asynchronously; it doubles up to taskPollMax.
	taskPoll    = 250 * time.Millisecond
	taskPollMax = 4 * time.Second

	metadataTimeout = 2 * time.Second
	metadataMax     = 64 << 10 // bytes of one answer
	// roleMargin: credentials of a role are asked for again so long before they end.
	roleMargin = 5 * time.Minute

	credentialsFileMax = 4 << 10 // bytes
)
