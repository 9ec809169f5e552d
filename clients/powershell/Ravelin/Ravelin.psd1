@{
    RootModule        = 'Ravelin.psm1'
    ModuleVersion     = '0.1.0'
    GUID              = '5b0f0c43-6a7a-4f7e-9d3b-0f1d4b3c8a21'
    Description       = 'Sessions of a Ravelin bastion: see them, end them.'
    PowerShellVersion = '5.1'
    FunctionsToExport = @('Get-RavelinSession', 'Stop-RavelinSession')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
