# Sessions of a Ravelin bastion as PowerShell objects, over plain Invoke-RestMethod: no other module is needed.
# How to use it: docs/howto/powershell.md.

Set-StrictMode -Version Latest

function Get-RavelinConnection {
    param([string] $Url, [securestring] $Token)
    if (-not $Url) { $Url = $env:RAVELIN_URL }
    if (-not $Url) { throw 'No bastion was named; give -Url or set RAVELIN_URL, such as https://bastion:8443.' }
    if ($Token) {
        $plain = [System.Net.NetworkCredential]::new('', $Token).Password
    }
    else {
        $plain = $env:RAVELIN_TOKEN
    }
    if (-not $plain) { throw 'No token was given; give -Token or set RAVELIN_TOKEN. An operator issues one: ravelin credentials issue --kind token.' }
    @{ Root = $Url.TrimEnd('/') + '/api/v1'; Headers = @{ Authorization = "Bearer $plain" } }
}

function Get-RavelinSession {
    <#
    .SYNOPSIS
        Lists sessions: the live ones, or with -History those that have ended.
    .EXAMPLE
        Get-RavelinSession | Where-Object principal -eq alice | Stop-RavelinSession -Reason 'rotating keys'
    .EXAMPLE
        Get-RavelinSession -History -Target db-prod | Format-Table id, principal, created, ended, end_reason, actor
    #>
    [CmdletBinding(DefaultParameterSetName = 'List')]
    param(
        [Parameter(ParameterSetName = 'One', Position = 0)] [string] $Id,
        [Parameter(ParameterSetName = 'List')] [string] $User,
        [Parameter(ParameterSetName = 'List')] [string] $Target,
        [Parameter(ParameterSetName = 'List')] [switch] $History,
        [string] $Url,
        [securestring] $Token
    )
    # Without this, a request that fails would leave the page before it in its place, to be shown again and again.
    $ErrorActionPreference = 'Stop'
    $connection = Get-RavelinConnection -Url $Url -Token $Token
    if ($PSCmdlet.ParameterSetName -eq 'One' -and $Id) {
        $uri = '{0}/sessions/{1}' -f $connection.Root, [uri]::EscapeDataString($Id)
        $session = Invoke-RestMethod -Method Get -Uri $uri -Headers $connection.Headers
        $session.PSObject.TypeNames.Insert(0, 'Ravelin.Session')
        return $session
    }
    $query = [System.Collections.Generic.List[string]]::new()
    if ($History) { $query.Add('state=ended') } else { $query.Add('state=live') }
    if ($User) { $query.Add('principal=' + [uri]::EscapeDataString($User)) }
    if ($Target) { $query.Add('target=' + [uri]::EscapeDataString($Target)) }
    $query.Add('limit=500')
    $cursor = $null
    do {
        $parts = if ($cursor) { $query + ('cursor=' + [uri]::EscapeDataString($cursor)) } else { $query }
        $uri = '{0}/sessions?{1}' -f $connection.Root, ($parts -join '&')
        $page = Invoke-RestMethod -Method Get -Uri $uri -Headers $connection.Headers
        foreach ($session in $page.items) {
            $session.PSObject.TypeNames.Insert(0, 'Ravelin.Session')
            $session
        }
        $cursor = if ($page.PSObject.Properties['next_cursor']) { $page.next_cursor } else { $null }
    } while ($cursor)
}

function Stop-RavelinSession {
    <#
    .SYNOPSIS
        Ends sessions and says, for each, when both of its sockets were closed.
    .EXAMPLE
        Get-RavelinSession -User mallory | Stop-RavelinSession -Reason 'account closed' -WhatIf
    #>
    [CmdletBinding(SupportsShouldProcess, ConfirmImpact = 'High')]
    param(
        [Parameter(Mandatory, Position = 0, ValueFromPipeline, ValueFromPipelineByPropertyName)] [string] $Id,
        [string] $Reason,
        [ValidateRange(0, 60000)] [int] $WaitMilliseconds = 5000,
        [string] $Url,
        [securestring] $Token
    )
    begin { $connection = Get-RavelinConnection -Url $Url -Token $Token }
    process {
        if (-not $PSCmdlet.ShouldProcess($Id, 'End the session')) { return }
        $uri = '{0}/sessions/terminate' -f $connection.Root
        $wish = [ordered]@{ ids = @($Id); wait_ms = $WaitMilliseconds }
        if ($Reason) { $wish.reason = $Reason }
        $body = ConvertTo-Json -InputObject $wish -Compress
        try {
            $answer = Invoke-RestMethod -Method Post -Uri $uri -Headers $connection.Headers -ContentType 'application/json' -Body $body
        }
        catch {
            # The error is this one's; what is in the variable is of the one before.
            $PSCmdlet.WriteError($_)
            return
        }
        foreach ($outcome in $answer.items) {
            $outcome.PSObject.TypeNames.Insert(0, 'Ravelin.Outcome')
            $outcome
        }
    }
}

Export-ModuleMember -Function Get-RavelinSession, Stop-RavelinSession
